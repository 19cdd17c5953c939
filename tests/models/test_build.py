"""Networks by name: their parts, options, configuration and what a person is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models import (
    BACKBONES,
    NetworkOptions,
    build_aggregation,
    build_network,
    network_from_options,
    rebuild_network,
)

IMAGES = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class TinyTrunk(nn.Conv2d):
    """A user's own backbone."""

    kind = "map"
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self, pretrain: str, *, width: int = 8) -> None:
        super().__init__(3, width, 4, stride=4)


class TokenTrunk(nn.Module):
    """A backbone whose output is a sequence."""

    kind = "tokens"
    out_channels = 8

    def __init__(self, pretrain: str) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images).flatten(2).transpose(1, 2)


TINY = f"{__name__}:TinyTrunk"
TOKENS = f"{__name__}:TokenTrunk"


STRIDES = {
    **{f"resnet{depth}conv4": (256, 16) for depth in (18, 34)},
    **{f"resnet{depth}conv5": (512, 32) for depth in (18, 34)},
    **{f"resnet{depth}conv4": (1024, 16) for depth in (50, 101, 152)},
    **{f"resnet{depth}conv5": (2048, 32) for depth in (50, 101, 152)},
    "vgg16": (512, 16),
    "efficientnet_lite0": (1280, 32),
    "efficientnet_lite0_s16": (112, 16),
    **{f"efficientnet_lite{variant}": (1280, 32) for variant in (1, 2)},
    "efficientnet_lite1_s16": (112, 16),
    "efficientnet_lite2_s16": (120, 16),
}


# Families with a test file of their own.
ELSEWHERE = (
    "alexnet", "cct384", "efficientnet_b", "efficientnet_v2", "convnext", "swin_v2", "mobilenet_v3", "regnet_",
    "deit", "vit", "maxvit_t", "dinov2_", "dinov3_",
)  # fmt: skip


@pytest.mark.parametrize("backbone", STRIDES)
def test_maps_have_the_stated_shape(backbone: str) -> None:
    channels, stride = STRIDES[backbone]
    with torch.device("meta"):  # shapes without numbers
        trunk = BACKBONES.resolve(backbone)("none").eval()
        features = trunk(torch.empty(2, 3, 64, 96))
    assert features.shape == (2, channels, 64 // stride, 96 // stride)
    assert trunk.out_channels == channels and trunk.kind == "map"


def test_every_backbone_is_tested_for_its_shape() -> None:
    others = {name for name in BACKBONES if name not in STRIDES and not name.startswith(ELSEWHERE)}
    assert set(STRIDES) <= set(BACKBONES) and not others, others


@pytest.mark.parametrize(("backbone", "trained"), [("vgg16", {"24", "26", "28"}), ("alexnet", {"6", "8", "10"})])
def test_plain_networks_freeze_their_early_layers(backbone: str, trained: set[str]) -> None:
    with torch.device("meta"):
        trunk = BACKBONES.resolve(backbone)("none")
    assert {name.split(".")[0] for name, p in trunk.named_parameters() if p.requires_grad} == trained


def test_the_map_size_of_mixvpr_follows_the_images() -> None:
    network = build_network(TINY, "mixvpr", "none", resize=(64, 96), out_channels=4, mix_depth=1)
    assert (network.config["in_h"], network.config["in_w"]) == (16, 24) and network(IMAGES).shape == (2, 16)
    assert build_network(**network.config)(IMAGES).shape == (2, 16)
    with pytest.raises(UserError, match="--aggregation mixvpr: made for a 16x24 map, the images give 8x8"):
        network(IMAGES[:, :, :32, :32])


@pytest.mark.parametrize("stage", [4, 5])
def test_resnet_freezes_what_comes_before_conv4(stage: int) -> None:
    network = build_network(f"resnet18conv{stage}", "gem", "none")
    frozen = {name.split(".")[1] for name, p in network.named_parameters() if not p.requires_grad}
    trained = {name.split(".")[1] for name, p in network.backbone.named_parameters(prefix="b") if p.requires_grad}
    assert frozen == {"0", "1", "4", "5"}
    assert trained == {str(n) for n in range(6, stage + 3)}


def test_pixels_are_normalised_inside_and_floats_are_not() -> None:
    network = build_network(TINY, "gem", "none")
    by_hand = (IMAGES.double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(network.normalise(IMAGES).double(), by_hand, atol=1e-6, rtol=0)
    torch.testing.assert_close(network(IMAGES), network(by_hand.float()))
    lite = build_network("efficientnet_lite0_s16", "gem", "none")
    torch.testing.assert_close(lite.normalise(IMAGES), (IMAGES.float() - 127) / 128, atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [{}, {"l2": "after_pool"}, {"fc_output_dim": 5}, {"aggregation": "netvlad"}])
def test_the_configuration_rebuilds_the_network(options: dict) -> None:
    options = {"backbone": TINY, "aggregation": "gem", "width": 6, **options}
    network = build_network(pretrain="none", **options)
    for again in (build_network(**network.config), rebuild_network(network.config, own=[TINY, TOKENS])):
        again.load_state_dict(network.state_dict())
        assert torch.equal(again(IMAGES), network(IMAGES))
        assert again.config == network.config and again.descriptors_dim == network(IMAGES).shape[1]


def test_rebuilding_fetches_no_weights_but_remembers_the_first_ones() -> None:
    config = {"backbone": "resnet18conv4", "aggregation": "gem", "pretrain": "imagenet"}
    assert rebuild_network(config).config["pretrain"] == "imagenet"


def test_the_configuration_is_plain_values() -> None:
    config = build_network(TINY, "netvlad", "none", netvlad_clusters=3).config
    assert config["netvlad_clusters"] == 3
    assert all(value is None or isinstance(value, (str, int, float, bool)) for value in config.values())


def test_netvlad_takes_the_tokens_of_a_sequence() -> None:
    network = build_network(TOKENS, "netvlad", "none", netvlad_clusters=4)
    assert network.aggregation.conv.weight.shape == (4, 8, 1)
    assert network(IMAGES).shape == (2, 32)
    with pytest.raises(UserError, match=r"--aggregation mac: takes map, but --backbone .* gives tokens"):
        build_network(TOKENS, "mac", "none")


def test_options_of_the_command_line() -> None:
    network = network_from_options(
        NetworkOptions("efficientnet_lite0_s16", "netvlad", netvlad_clusters=2, pretrain="none")
    )
    assert network.descriptors_dim == 224


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet18conv3"}, "backbone 'resnet18conv3' is not known. Did you mean resnet18conv"),
        ({"aggregation": "netvlda"}, "aggregation 'netvlda' is not known. Did you mean netvlad"),
        (
            {"netvlad_cluster": 3},
            "resnet18conv4 with netvlad: no option 'netvlad_cluster'. Did you mean netvlad_clusters?",
        ),
        ({"l2": "before"}, "--l2 before: not known. Expected one of before_pool, after_pool, none"),
        ({"fc_output_dim": 0}, "--fc_output_dim 0: not a dimension"),
        ({"netvlad_clusters": 0}, "--netvlad_clusters 0: not a number of clusters"),
        ({"trunc_te": 3}, "resnet18conv4 with netvlad: no option 'trunc_te'"),
        (
            {"aggregation": "seqpool"},
            "--aggregation seqpool: takes pool_sequence of a sequence, but --backbone resnet18",
        ),
        ({"aggregation": "salad"}, "--aggregation salad: takes map+token, but --backbone resnet18conv4 gives map"),
        (
            {"aggregation": "cls"},
            "--aggregation cls: takes class_token of a sequence, but --backbone resnet18conv4 gives",
        ),
        ({"backbone": "cct384", "aggregation": "gem", "trunc_te": 15}, "--trunc_te 15: cct384 has no such layer"),
        ({"aggregation": "boq", "proj_channels": 100}, "proj_channels 100: attention heads are 64 wide"),
        ({"pretrain": "gldv3"}, "--pretrain gldv3: no such weights for resnet18"),
    ],
)
def test_a_person_is_told_what_is_wrong(arguments: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        build_network(**{"backbone": "resnet18conv4", "pretrain": "none", **arguments})
    assert str(error.value).startswith(message)


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from urllib.error import URLError

    def refuse(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(
        UserError, match=r"weights of resnet18 cannot be downloaded \(no network\).*resnet18-f37072fd.pth"
    ):
        build_network("resnet18conv4", "gem")


def test_aggregation_channels_must_be_given_once() -> None:
    with pytest.raises(UserError, match="in_channels is None, num_channels None"):
        build_aggregation("gem")
    with pytest.raises(UserError, match="in_channels is 3, num_channels 4"):
        build_aggregation("gem", 3, num_channels=4)


@pytest.mark.parametrize(
    ("options", "dim"),
    [
        ({"aggregation": "convap", "out_channels": 8, "s1": 3, "s2": 2}, 48),
        ({"aggregation": "gem", "gem_grid": 2}, 448),
        ({"aggregation": "convgem", "out_channels": 9}, 9),
        ({"aggregation": "cosplace", "out_dim": 11}, 11),
        ({"aggregation": "mixvpr", "out_channels": 6, "mix_depth": 1, "mlp_ratio": 0.5, "out_rows": 3}, 18),
        ({"aggregation": "boq", "proj_channels": 64, "num_queries": 3, "num_layers": 1, "row_dim": 2}, 128),
    ],
)
def test_options_of_an_aggregation_reach_it_and_its_checkpoint(options: dict[str, Any], dim: int) -> None:
    chosen = NetworkOptions(backbone="efficientnet_lite0_s16", pretrain="none", **options)
    network = network_from_options(chosen, (64, 96)).eval()
    assert network.descriptors_dim == dim
    assert network(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape == (1, dim)
    assert rebuild_network(network.config, network.state_dict()).descriptors_dim == dim


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "convap", "s1": 0}, "--s1 0: too small"),
        ({"aggregation": "mixvpr", "mlp_ratio": 0.0}, "--mlp_ratio 0.0: out of range"),
        ({"aggregation": "salad", "dropout": 1.0}, "--dropout 1.0: out of range"),
    ],
)
def test_bad_values_of_an_aggregations_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        NetworkOptions(**options)
