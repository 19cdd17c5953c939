"""FLOPs counted without torch's compiler: the same as torch's own counter."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vgbench.models import build_network
from vgbench.models.flops import count_flops


@pytest.mark.parametrize(
    ("backbone", "aggregation", "size"),
    [
        ("resnet18conv4", "netvlad", (64, 96)),
        ("efficientnet_lite0", "gem", (64, 64)),
        ("dinov2_vits14", "salad", (126, 140)),
        ("swin_v2_t", "mac", (64, 64)),
    ],
)
def test_the_same_as_torch_counts(backbone: str, aggregation: str, size: tuple[int, int]) -> None:
    network = build_network(backbone, aggregation, "none").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as reference:
        network(torch.zeros(1, 3, *size, dtype=torch.uint8))
    network.train()
    assert count_flops(network, size) == reference.get_total_flops() > 1e6
    assert network.training


def test_neither_the_compiler_nor_what_few_runs_need_is_imported() -> None:
    script = """
import sys, torch
from vgbench.models.flops import count_flops
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
network[0].forward = lambda images, conv=network[0]: torch.nn.Conv2d.forward(conv, images.float())
assert count_flops(network, (10, 12)) == 2 * 27 * 4 * 8 * 10
import vgbench.runs.eval_run
from vgbench.models import build_network
assert count_flops(build_network("resnet18conv4", "netvlad", "none"), (32, 32)) > 0
from vgbench.data.positives import neighbours_within
assert neighbours_within(torch.zeros(2, 2).numpy(), torch.zeros(3, 2).numpy(), 1.0).counts.tolist() == [3, 3]
slow = ("torch._dynamo", "sympy", "triton", "scipy", "faiss", "cv2", "torchvision", "vgbench.benchmark.matrix")
print(*[name for name in slow if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stdout + done.stderr


class Values(torch.nn.Module):
    """Somebody's own network, whose way depends on the values that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(12, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        few = images.float().mean((2, 3)).repeat(1, 4)
        return self.layer(few) if float(few.sum()) < 1 else few


def test_a_network_that_looks_at_values_is_run() -> None:
    assert count_flops(Values(), (3, 4)) == 2 * 12 * 5


@pytest.mark.parametrize(
    "layer", [torch.nn.ConvTranspose2d(3, 6, 2, 2), torch.nn.Conv2d(3, 6, 3, groups=3, dilation=2)]
)
def test_convolutions_of_every_kind(layer: torch.nn.Module) -> None:
    network = torch.nn.Sequential(torch.nn.Upsample(scale_factor=1), layer)
    network[0].forward = lambda images: images.float()  # type: ignore[method-assign]
    with torch.no_grad(), FlopCounterMode(display=False) as reference:
        network(torch.zeros(1, 3, 9, 8, dtype=torch.uint8))
    assert count_flops(network, (9, 8)) == reference.get_total_flops() > 0
