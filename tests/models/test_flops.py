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


def test_the_compiler_is_not_imported() -> None:
    script = """
import sys, torch
from vgbench.models.flops import count_flops
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
network[0].forward = lambda images, conv=network[0]: torch.nn.Conv2d.forward(conv, images.float())
assert count_flops(network, (10, 12)) == 2 * 27 * 4 * 8 * 10
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
