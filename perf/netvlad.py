"""The NetVLAD layer beside the same as a loop over its clusters: seconds and memory, forward and backward."""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor

from perf.measure import Pair, in_own_process, pair_of, peak_mb, seconds
from vgbench.models.aggregation.netvlad import NetVLAD

IMAGES, CHANNELS, MAP = 8, 256, (30, 40)  # ResNet-18 conv4 of 480x640
CLUSTERS = 64


def measure(rounds: int, device: str) -> Pair:
    """Compare forward and backward of both forms, each in its own process."""
    found = [
        in_own_process("perf.netvlad", {"who": who, "rounds": rounds, "device": device}) for who in ("ours", "loop")
    ]
    if abs(found[0]["checksum"] - found[1]["checksum"]) > 1e-3 * abs(found[1]["checksum"]):
        print(f"netvlad: the two disagree ({found[0]['checksum']}, {found[1]['checksum']})")
    return pair_of(
        f"NetVLAD layer, {CLUSTERS} clusters, {IMAGES} maps of 480x640 ({CHANNELS} channels), forward and backward",
        "seconds", found[0]["seconds"], found[1]["seconds"], memory=(found[0]["mb"], found[1]["mb"]),
    )  # fmt: skip


def looped(layer: NetVLAD, features: Tensor) -> Tensor:
    """Return [B,K*C] as the formula is written: residuals to one cluster after the other."""
    x = torch.nn.functional.normalize(features, dim=1).flatten(2)  # [B,C,P]
    assignment = torch.softmax(layer.conv(x.view_as(features)).flatten(2), dim=1)  # [B,K,P]
    parts = []
    for cluster in range(CLUSTERS):
        residual = (x - layer.centroids[cluster][None, :, None]) * assignment[:, cluster : cluster + 1]
        parts.append(torch.nn.functional.normalize(residual.sum(2), dim=1))
    return torch.nn.functional.normalize(torch.stack(parts, 1).flatten(1), dim=1)


def main() -> None:
    """One side, in its own process: prints its seconds and the memory that it took."""
    arguments = json.loads(sys.argv[1])
    torch.manual_seed(0)
    layer = NetVLAD(CHANNELS, netvlad_clusters=CLUSTERS).to(arguments["device"])
    features = torch.randn(IMAGES, CHANNELS, *MAP, device=arguments["device"], requires_grad=True)
    forward = layer if arguments["who"] == "ours" else lambda x: looped(layer, x)
    before = peak_mb()

    def step() -> float:
        described = forward(features)
        weights = torch.linspace(-1, 1, described.numel(), device=described.device).view_as(described)
        return float(torch.autograd.grad((described * weights).sum(), features)[0].abs().sum())

    checksum = step()
    times = [seconds(step) for _ in range(arguments["rounds"])]
    print(json.dumps({"seconds": times, "checksum": checksum, "mb": peak_mb() - before}))


if __name__ == "__main__":
    main()
