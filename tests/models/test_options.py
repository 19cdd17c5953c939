"""The options that decide which part of a backbone is used and trained, from the command line to the network."""

from __future__ import annotations

import pytest
import torch

import parser
from vgbench.errors import UserError
from vgbench.models import BACKBONES, build_network, network_from_options
from vgbench.models.aggregation import AGGREGATIONS
from vgbench.models.network import Network
from vgbench.models.options import PLACED_BY_L2


def built(*argv: str) -> Network:
    given = parser.read_command_line(parser.TrainSettings, "test", [*argv, "--pretrain=none", "--aggregation=gem"])
    return network_from_options(parser.resolve(parser.TrainSettings, given, {}).network)


def test_flags_reach_the_backbone() -> None:
    with torch.device("meta"):
        lite = built("--backbone=efficientnet_lite1", "--cut=4", "--freeze=1", "--non_local", "--channel_bottleneck=8")
        dino = built("--backbone=dinov2_vits14", "--unfreeze_blocks=2")
        resnet = built("--backbone=resnet18conv4", "--num_non_local=2", "--non_local", "--freeze=0")
    assert lite.config["cut"] == 4 and lite.config["freeze"] == 1 and lite.descriptors_dim == 80
    assert lite.backbone.non_local[0].theta.out_channels == 8
    assert {name.split(".")[1] for name, p in dino.backbone.blocks.named_parameters(prefix="b") if p.requires_grad} == {
        "10", "11",
    }  # fmt: skip
    assert len(resnet.backbone.non_local) == 2 and all(p.requires_grad for p in resnet.parameters())


def test_the_last_norm_of_dinov2_is_a_choice_of_its_own() -> None:
    with torch.device("meta"):
        without, as_usual = built("--backbone=dinov2_vits14", "--no-norm_layer"), built("--backbone=dinov2_vits14")
    assert without.config["norm_layer"] is False and not without.backbone.norm_layer
    assert "norm_layer" not in as_usual.config and as_usual.backbone.norm_layer
    with pytest.raises(UserError, match="resnet18conv4 with gem: no option 'norm_layer'"), torch.device("meta"):
        built("--backbone=resnet18conv4", "--no-norm_layer")


def test_nothing_given_changes_nothing() -> None:
    with torch.device("meta"):
        network = built("--backbone=resnet18conv4")
    assert set(network.config) == {"backbone", "aggregation", "pretrain", "l2", "fc_output_dim"}


@pytest.mark.parametrize(
    ("backbone", "freeze", "trained"),
    [
        ("resnet18conv4", 0, {"0", "1", "4", "5", "6"}),
        ("resnet18conv4", 1, {"5", "6"}),
        ("resnet18conv5", None, {"6", "7"}),
        ("resnet18conv5", 4, set()),
        ("alexnet", 0, {"0", "3", "6", "8", "10"}),
        ("alexnet", None, {"6", "8", "10"}),
        ("vgg16", 12, {"28"}),
    ],
)
def test_freeze(backbone: str, freeze: int | None, trained: set[str]) -> None:
    with torch.device("meta"):
        trunk = BACKBONES.resolve(backbone)("none", **({} if freeze is None else {"freeze": freeze}))
    assert {name.split(".")[0] for name, p in trunk.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("resnet18conv4", {"freeze": 4}, "--freeze 4: resnet18conv4 has no such stage. Expected a number from 0 to 3"),
        ("vgg16", {"freeze": 14}, "--freeze 14: vgg16 has no such convolution. Expected a number from 0 to 13"),
        ("vgg16", {"cut": 2}, "vgg16 with gem: no option 'cut'. Expected one of"),
        ("resnet18conv4", {"unfreeze_blocks": 2}, "resnet18conv4 with gem: no option 'unfreeze_blocks'"),
        ("dinov2_vits14", {"freeze": 2}, "dinov2_vits14 with gem: no option 'freeze'"),
    ],
)
def test_refusals(backbone: str, options: dict, message: str) -> None:
    with pytest.raises(UserError) as error, torch.device("meta"):
        build_network(backbone, "gem", "none", **options)
    assert str(error.value).startswith(message)


def test_l2_places_those_that_say_so() -> None:
    said = {name for name in AGGREGATIONS if getattr(AGGREGATIONS.resolve(name), "places_l2", False)}
    assert said == set(PLACED_BY_L2)
