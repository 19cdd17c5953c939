"""Networks as ONNX through ONNX Runtime: how far from ours, and how fast beside ours.

python3 -m perf.exported         # one thread, processor seconds; a minute or two

Weights are random (they decide neither speed nor rounding much), preprocessing is in the file, and the number of images
of a batch is free in it. Ours is the form that `eval.py` runs, in the precision that it chooses here.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch
from tabulate import tabulate
from tqdm import tqdm

from vgbench.export.deployable import Deployable
from vgbench.export.formats import INPUT, OUTPUT, export_network
from vgbench.models import build_network
from vgbench.models.network import for_inference
from vgbench.runtime import Runtime, RuntimeOptions, resolve_runtime

NETWORKS = (
    ("efficientnet_lite0", "gem"), ("resnet18conv4", "netvlad"), ("resnet18conv4", "mixvpr"),
    ("dinov2_vits14", "supervlad"), ("dinov2_vits14", "qaa"), ("dinov2_vits14_reg", "image"),
)  # fmt: skip
SIZE = (224, 224)
IMAGES, ROUNDS = 4, 5


@dataclass(frozen=True)
class Exported:
    """One network beside its file.

    Attributes:
        name: of the network.
        dim: of its descriptors.
        difference: the largest of any value of a descriptor, between the file and the network in float32.
        ours: images a processor second, in the form and precision of an evaluation.
        float32: the same in float32.
        onnx: the same by ONNX Runtime, which computes in float32.
    """

    name: str
    dim: int
    difference: float
    ours: float
    float32: float
    onnx: float


def measure(
    runtime: Runtime, backbone: str, aggregation: str, size: tuple[int, int] = SIZE, rounds: int = ROUNDS
) -> Exported:
    """Write a network as ONNX, compare its descriptors on images that the export has not seen, and time it in turn."""
    torch.manual_seed(0)
    network = build_network(backbone, aggregation, pretrain="none", resize=size).eval()
    images = torch.randint(0, 256, (IMAGES, 3, *size), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_network(Deployable(network), size, "onnx", path)
        session = _session(path)
    with torch.inference_mode():
        expected = Deployable(network)(images)
    found = torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])
    forms = (runtime, Runtime(device=runtime.device, channels_last=runtime.channels_last))
    ways = [_inference(form, backbone, aggregation, images) for form in forms]
    rates = _rates([*ways, lambda: session.run([OUTPUT], {INPUT: images.numpy()})], rounds)
    return Exported(f"{backbone} + {aggregation}", expected.shape[1], float((found - expected).abs().max()), *rates)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _inference(runtime: Runtime, backbone: str, aggregation: str, images: torch.Tensor) -> Callable[[], object]:
    """Return what describes the images once in the form of an evaluation, from a network of its own."""
    network = build_network(backbone, aggregation, pretrain="none", resize=tuple(images.shape[-2:])).eval()
    runtime.prepare(network)
    infer = for_inference(network, runtime)
    return lambda: infer(runtime.to_device(images))


def _rates(ways: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return images a processor second of each way, the medians of rounds in turn after one that warms up."""
    for way in ways:
        way()
    taken = [[IMAGES / _spent(way) for way in ways] for _ in range(rounds)]
    return [statistics.median(rates) for rates in zip(*taken, strict=True)]


def _spent(way: Callable[[], object]) -> float:
    start = time.process_time()
    way()
    return time.process_time() - start


def table(exported: list[Exported]) -> str:
    """Return a markdown table, a row a network."""
    headers = ("network", "dim", "largest difference", "images/s, ours", "ours in float32", "ONNX Runtime")
    rows = [
        (one.name, one.dim, f"{one.difference:.1e}", f"{one.ours:.1f}", f"{one.float32:.1f}", f"{one.onnx:.1f}")
        for one in exported
    ]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main() -> None:
    torch.set_num_threads(1)
    runtime = resolve_runtime(RuntimeOptions(device="cpu"))
    precision = str(runtime.amp_dtype or torch.float32).removeprefix("torch.")
    rows = [measure(runtime, *names) for names in tqdm(NETWORKS, desc="ONNX", unit="network")]
    print(
        f"one thread, ours in {precision}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
        f"ONNX Runtime {onnxruntime.__version__}; batches of {IMAGES} images of {SIZE[0]}x{SIZE[1]}\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
