"""Non-local blocks against their formula, and as a part of networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models import build_network, for_inference, rebuild_network
from vgbench.models.backbones.non_local import NonLocalBlock
from vgbench.runtime import Runtime

IMAGES = torch.randint(0, 256, (3, 3, 65, 98), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LITE = "efficientnet_lite0_s16"


def _stir(module: nn.Module) -> None:
    """Take every norm away from its neutral start."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)


def _by_hand(block: NonLocalBlock, x: Tensor) -> Tensor:
    """The paper's formula, position by position, in float64."""
    x = x.double()
    state = {key: value.double() for key, value in block.state_dict().items()}

    def pointwise(name: str, column: Tensor) -> Tensor:
        return state[f"{name}.weight"][:, :, 0, 0] @ column + state[f"{name}.bias"]

    output = x.clone()
    for image, answer in zip(x, output, strict=True):
        columns = image.flatten(1).T
        for position, column in enumerate(columns):
            scores = torch.stack([pointwise("theta", column) @ pointwise("phi", other) for other in columns])
            shares = scores.exp() / scores.exp().sum()
            mixed = sum(share * pointwise("g", other) for share, other in zip(shares, columns, strict=True))
            change = pointwise("out", mixed)
            change = (change - state["norm.running_mean"]) / (state["norm.running_var"] + block.norm.eps).sqrt()
            row, col = divmod(position, image.shape[2])
            answer[:, row, col] += change * state["norm.weight"] + state["norm.bias"]
    return output


def test_the_formula() -> None:
    torch.manual_seed(0)
    block = NonLocalBlock(6, 4).eval()
    _stir(block)
    x = torch.randn(2, 6, 3, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(x).double(), _by_hand(block, x), atol=1e-4, rtol=1e-4)


def test_it_starts_as_the_identity_and_learns() -> None:
    torch.manual_seed(0)
    network = build_network(LITE, "gem", "none", non_local=True, num_non_local=2).eval()
    normalised = network.normalise(IMAGES)
    with torch.no_grad():
        assert torch.equal(network.backbone(normalised), network.backbone.trunk(normalised))
    network.train()(normalised).square().sum().backward()
    trained = [p for p in network.backbone.non_local.parameters() if p.requires_grad]
    assert len(trained) == 2 * 10
    assert all(block.norm.weight.grad.abs().sum() > 0 for block in network.backbone.non_local)
    assert network.backbone.trunk._conv_stem.weight.grad is None


def test_the_configuration_rebuilds_it() -> None:
    network = build_network(LITE, "netvlad", "none", non_local=True, channel_bottleneck=8, netvlad_clusters=2).eval()
    _stir(network.backbone.non_local)
    assert network.backbone.non_local[0].theta.out_channels == 8
    assert network.config["non_local"] is True and network.config["channel_bottleneck"] == 8
    again = rebuild_network(network.config, network.state_dict()).eval()
    with torch.no_grad():
        assert torch.equal(again(IMAGES), network(IMAGES))
    assert build_network(LITE, "gem", "none", non_local=True).backbone.non_local[0].theta.out_channels == 56
    assert "non_local" not in build_network(LITE, "gem", "none").config
    # Pixels go in as the backbone wants them.
    torch.testing.assert_close(network.mean, torch.full((1, 3, 1, 1), 127 / 255))


@pytest.mark.parametrize("backbone", [LITE, "mobilenet_v3_small"])
def test_the_inference_form_describes_alike(backbone: str) -> None:
    torch.manual_seed(0)
    network = build_network(backbone, "gem", "none", non_local=True, num_non_local=2, cut=None).eval()
    _stir(network)
    with torch.no_grad():
        expected = network(IMAGES)
    actual = for_inference(network, Runtime(channels_last=True))(IMAGES)
    torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-3)


def test_transformers_that_can_give_a_map_do() -> None:
    with torch.device("meta"):
        network = build_network("dinov2_vits14", "gem", "none", non_local=True)
    assert network.backbone.trunk.kind == "map"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_non_local": 2}, "--num_non_local 2: there are no non-local blocks. Expected it beside --non_local"),
        ({"channel_bottleneck": 64}, "--channel_bottleneck 64: there are no non-local blocks"),
        ({"non_local": True, "num_non_local": 0}, "--num_non_local 0: not a number of them. Expected 1 or more"),
        ({"non_local": True, "channel_bottleneck": -1}, "--channel_bottleneck -1: not a number of them"),
        ({"non_local": True, "backbone": "cct384"}, "--non_local: its blocks take a map, but .* cct384 gives tokens"),
        ({"non_local": True, "backbone": "dinov2_vits14", "aggregation": "cls"}, "--aggregation cls: takes class_"),
    ],
)  # fmt: skip
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message), torch.device("meta"):
        build_network(**{"backbone": LITE, "aggregation": "gem", "pretrain": "none", **options})
