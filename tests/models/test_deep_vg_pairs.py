"""Every pair of backbone and aggregation that the Deep VG Benchmark builds, against what it computes.

The vectors hold some of the dimensions of each descriptor; `conformance/README.md` says how the weights are made.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from locations import CONFORMANCE
from numbers_by_rule import images_of, weights_of
from torch import Tensor

from vgbench.models import build_network, load_state_dict, rebuild_network
from vgbench.models.network import Network

VECTORS = torch.load(CONFORMANCE / "deep_vg_pairs.pt", weights_only=True)
TOLERANCE = 1e-5


@cache
def _backbone_weights(name: str) -> dict[str, Tensor]:
    return weights_of(VECTORS["backbones"][name])


def _network(config: dict[str, Any]) -> Network:
    """The network without any weights: drawing those of the large ones takes longer than the test."""
    with torch.device("meta"):
        network = build_network(**config, pretrain="none")
    return network.to_empty(device="cpu").eval()


def _name(pair: dict[str, Any]) -> str:
    return "-".join(str(value) for key, value in pair["config"].items() if key != "netvlad_clusters")


@pytest.mark.parametrize("pair", VECTORS["pairs"], ids=_name)
def test_a_pair_of_the_deep_vg_benchmark(pair: dict[str, Any]) -> None:
    network = _network(pair["config"])
    weights = _backbone_weights(pair["backbone"]) | weights_of(pair["aggregation"])
    if pair["config"]["aggregation"] == "crn":  # these are not drawn: drawn ones may shut its last ReLU
        weights["aggregation.crn.acc_w.weight"].fill_(1.0)
        weights["aggregation.crn.acc_w.bias"].fill_(0.0)
    load_state_dict(network, weights)
    assert network.descriptors_dim == pair["dim"]
    # Its ViT has a pooler that no descriptor depends on; the file does not count that.
    assert sum(part.numel() for part in network.parameters() if part.requires_grad) == pair["trained"]
    with torch.no_grad():
        output = network(images_of(*pair["config"]["resize"]))[:, :: pair["step"]]
    torch.testing.assert_close(output, pair["output"], atol=TOLERANCE, rtol=0)


def test_no_pair_is_missing() -> None:
    """The benchmark refuses the others: a CNN has no tokens, and its transformers give nothing else."""
    cnns = ["alexnet", "vgg16"] + [f"resnet{depth}conv{stage}" for depth in (18, 50, 101) for stage in (4, 5)]
    wanted = {(cnn, pool) for cnn in cnns for pool in ("netvlad", "gem", "spoc", "mac", "rmac", "crn", "rrm")}
    wanted |= {("cct384", pool) for pool in ("netvlad", "gem", "cls", "seqpool")}
    wanted |= {("vit", pool) for pool in ("netvlad", "gem", "cls")}
    assert wanted == {(pair["config"]["backbone"], pair["config"]["aggregation"]) for pair in VECTORS["pairs"]}


def test_checkpoints_from_before_the_choice_keep_their_normalisation() -> None:
    """Their configuration says nothing of `l2_over`, and their tokens were each made of unit length."""
    config = {"backbone": "cct384", "aggregation": "gem", "trunc_te": 1, "tokens": True}
    before, now = rebuild_network(config).eval(), build_network(**config, pretrain="none").eval()
    assert now.config["l2_over"] == "positions"
    again = rebuild_network(now.config, now.state_dict()).eval()
    load_state_dict(before, now.state_dict())
    images = images_of(384, 384)
    with torch.no_grad():
        tokens = before.local_features(images)
        unit = torch.nn.functional.normalize(tokens, dim=2).clamp(min=1e-6)
        torch.testing.assert_close(before(images), unit.pow(3).mean(1).pow(1 / 3))
        torch.testing.assert_close(again(images), now(images))
