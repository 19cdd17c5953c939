"""How near the forward pass is to what the processor can do: its roofline (Williams, Waterman and Patterson, 2009).

python3 -m perf.roofline         # one thread, processor seconds; a minute or two

The roof is the best rate of a large matrix product and of a large convolution in the same precision. A network whose
convolutions have few operations a byte (a depthwise one has 2 k^2 of them for two numbers moved) stays below it,
however it is called; what a better program could still save is the time outside of convolutions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor, nn

from vgbench.models import build_network
from vgbench.models.flops import count_flops
from vgbench.models.fold_batch_norm import FusedConv2d
from vgbench.models.network import for_inference
from vgbench.runtime import Runtime, RuntimeOptions, resolve_runtime

NETWORKS = (("resnet18conv4", "gem"), ("efficientnet_lite0", "gem"))
SIZE = (320, 320)
IMAGES, ROUNDS = 16, 7
PRODUCT = 1536  # rows, columns and depth of the matrices
MAP = (4, 256, 40, 40)  # of a convolution 3x3 from 256 channels to as many
CONVOLUTIONS = (nn.Conv2d, FusedConv2d)


@dataclass(frozen=True)
class Reached:
    """A network's forward pass below its roof.

    Attributes:
        name: of the network.
        gflops: of one image (a multiply-add is two).
        images: a processor second.
        peak: GFLOP/s of the roof.
        convolving: the part of the time that is spent within convolutions, 0 to 1.
    """

    name: str
    gflops: float
    images: float
    peak: float
    convolving: float

    @property
    def rate(self) -> float:
        """GFLOP/s that it reaches."""
        return self.gflops * self.images

    @property
    def share(self) -> float:
        """The part of the roof that it reaches, 0 to 1."""
        return self.rate / self.peak

    @property
    def to_gain(self) -> float:
        """How many times faster it would be if everything besides convolutions took no time."""
        return 1 / self.convolving


def spent(action: Callable[[], object]) -> float:
    """Run once; return processor seconds."""
    start = time.process_time()
    action()
    return time.process_time() - start


@dataclass(frozen=True)
class Roof:
    """Work without anything around it.

    Attributes:
        name: what it is.
        action: does it once.
        operations: of once.
    """

    name: str
    action: Callable[[], object]
    operations: float

    def rate(self) -> float:
        """Do it once; return GFLOP/s."""
        return self.operations / spent(self.action) / 1e9


def best(roofs: Sequence[Roof], rounds: int = ROUNDS) -> list[float]:
    """Return the GFLOP/s of the best of some rounds of each, taken in turn after one that warms up."""
    for roof in roofs:
        roof.action()
    taken = [[roof.rate() for roof in roofs] for _ in range(rounds)]
    return [max(rates) for rates in zip(*taken, strict=True)]


@torch.inference_mode()
def roofs_of(runtime: Runtime, product: int = PRODUCT) -> list[Roof]:
    """Return a matrix product and a convolution 3x3, in the runtime's precision."""
    dtype = runtime.amp_dtype or torch.float32
    one, other = (torch.randn(product, product).to(dtype) for _ in range(2))
    count, channels, height, width = MAP
    maps = torch.randn(*MAP).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
    operations = 2.0 * count * height * width * channels * channels * 9
    return [
        Roof("matrix product", lambda: one @ other, 2.0 * product**3),
        Roof("convolution 3x3", lambda: F.conv2d(maps, weight, padding=1), operations),
    ]


class _Stopwatch:
    """Counts the processor seconds within the convolutions of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.seconds = 0.0
        self._begun = 0.0
        for layer in module.modules():
            if isinstance(layer, CONVOLUTIONS):
                layer.register_forward_pre_hook(self._begin)
                layer.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        self._begun = time.process_time()

    def _end(self, *_: object) -> None:
        self.seconds += time.process_time() - self._begun


def reach(
    runtime: Runtime, backbone: str, aggregation: str, size: tuple[int, int], roof: Roof, rounds: int = ROUNDS
) -> Reached:
    """Measure the inference form of a network, on images that are decoded already, and its roof in turn."""
    network = build_network(backbone, aggregation, pretrain="none").eval()
    gflops = count_flops(network, size) / 1e9
    runtime.prepare(network)
    infer = for_inference(network, runtime)
    images: Tensor = torch.randint(0, 256, (IMAGES, 3, *size), dtype=torch.uint8)
    batch = runtime.to_device(images)
    infer(batch), roof.action()
    taken = [(IMAGES / spent(lambda: infer(batch)), roof.rate()) for _ in range(rounds)]
    rate, peak = (statistics.median(values) for values in zip(*taken, strict=True))
    assert isinstance(infer, nn.Module)
    watch = _Stopwatch(infer)
    whole = sum(spent(lambda: infer(batch)) for _ in range(rounds))
    return Reached(f"{backbone} + {aggregation}", gflops, rate, peak, watch.seconds / whole)


def table(reached: list[Reached]) -> str:
    """Return a markdown table, a row a network."""
    headers = ("network", "GFLOPs an image", "images/s", "GFLOP/s", "of the roof", "in convolutions", "to gain besides")
    rows = [
        (
            one.name, f"{one.gflops:.2f}", f"{one.images:.1f}", f"{one.rate:.1f}", f"{one.share:.0%}",
            f"{one.convolving:.0%}", f"{one.to_gain:.2f}x",
        )
        for one in reached
    ]  # fmt: skip
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def roof_here() -> tuple[Runtime, Roof, str]:
    """Set one thread; return the runtime of this CPU, the higher of its roofs, and a line that says them."""
    torch.set_num_threads(1)
    runtime = resolve_runtime(RuntimeOptions(device="cpu"))
    roofs = roofs_of(runtime)
    rates = best(roofs)
    precision = str(runtime.amp_dtype or torch.float32).removeprefix("torch.")
    line = (
        f"one thread, {precision}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}: "
        + ", ".join(f"{roof.name} {rate:.0f} GFLOP/s at best" for roof, rate in zip(roofs, rates, strict=True))
    )
    return runtime, roofs[rates.index(max(rates))], line


def main() -> None:
    runtime, roof, line = roof_here()
    print(f"{line}\n")
    print(table([reach(runtime, backbone, aggregation, SIZE, roof) for backbone, aggregation in NETWORKS]))


if __name__ == "__main__":
    main()
