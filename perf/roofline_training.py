"""How near a training step is to what the processor can do (Williams, Waterman and Patterson, 2009).

python3 -m perf.roofline_training         # one thread, processor seconds; some minutes

A step of the convolutions is their forward pass, the gradient of each weight that is trained, and the gradient of each
input that leads to one: as many operations each. Who computes the same gradients can save no more than what is left
below the roof.
"""

from __future__ import annotations

import math
import statistics

import torch
from tabulate import tabulate
from torch import Tensor, nn

from perf.roofline import NETWORKS, ROUNDS, SIZE, Roof, roof_here, spent
from perf.training_step import IMAGES, Step
from vgbench.runtime import Runtime


class StepOperations:
    """Counts the operations that a step's convolutions take (a multiply-add is two)."""

    def __init__(self, module: nn.Module) -> None:
        self.operations = 0.0
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        self._hooks = [layer.register_forward_hook(self._count) for layer in convolutions]

    def _count(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        products = output.numel() * math.prod(layer.weight.shape[1:])
        gradients = int(layer.weight.requires_grad) + int(inputs[0].requires_grad)
        self.operations += 2.0 * products * (1 + gradients * torch.is_grad_enabled())

    def __enter__(self) -> StepOperations:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def reach(
    runtime: Runtime, backbone: str, aggregation: str, size: tuple[int, int], roof: Roof, rounds: int = ROUNDS
) -> tuple[float, float, float]:
    """Measure a training step and the roof in turn.

    Returns:
        GFLOPs of a step, steps a processor second, GFLOP/s of the roof (medians).
    """
    step = Step(runtime, backbone, aggregation, size)
    with StepOperations(step.network) as counted:
        step()
    taken = [(1 / spent(step), roof.rate()) for _ in range(rounds)]
    rate, peak = (statistics.median(values) for values in zip(*taken, strict=True))
    return counted.operations / 1e9, rate, peak


def table(reached: dict[str, tuple[float, float, float]]) -> str:
    """Return a markdown table, a row a network."""
    headers = ("network", "GFLOPs a step", "seconds a step", "GFLOP/s", "of the roof", "to gain at most")
    rows = [
        (
            name, f"{gflops:.1f}", f"{1 / rate:.2f}", f"{gflops * rate:.1f}", f"{gflops * rate / peak:.0%}",
            f"{peak / (gflops * rate):.2f}x",
        )
        for name, (gflops, rate, peak) in reached.items()
    ]  # fmt: skip
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main() -> None:
    runtime, roof, line = roof_here()
    print(f"{line}; {IMAGES} images of {SIZE[0]}x{SIZE[1]} a step\n")
    print(table({f"{one} + {other}": reach(runtime, one, other, SIZE, roof, rounds=3) for one, other in NETWORKS}))


if __name__ == "__main__":
    main()
