"""The backbones that are torchvision's, cut into stages, against torchvision's own networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.regnet import BlockParams

from vgbench.errors import UserError
from vgbench.models import BACKBONES, build_network, for_inference
from vgbench.models.backbones.maxvit import MaxViT, PartitionAttention
from vgbench.runtime import Runtime

# Channels of the last map, stages, stages that are frozen by default.
FAMILIES = {
    **{
        f"efficientnet_b{n}": (c, 8, 3) for n, c in enumerate((1280, 1280, 1408, 1536, 1792, 2048, 2304, 2560))
    },
    "efficientnet_v2_s": (1280, 7, 3),
    "efficientnet_v2_m": (1280, 8, 3),
    "efficientnet_v2_l": (1280, 8, 3),
    "convnext_tiny": (768, 4, 2),
    "convnext_small": (768, 4, 2),
    "convnext_base": (1024, 4, 2),
    "swin_v2_t": (768, 4, 2),
    "swin_v2_s": (768, 4, 2),
    "swin_v2_b": (1024, 4, 2),
    "mobilenet_v3_small": (576, 12, 3),
    "mobilenet_v3_large": (960, 16, 6),
    "maxvit_t": (512, 4, 2),
    **{
        f"regnet_x_{size}": (channels, 4, 2)
        for size, channels in {
            "400mf": 400, "800mf": 672, "1_6gf": 912, "3_2gf": 1008, "8gf": 1920, "16gf": 2048, "32gf": 2520,
        }.items()
    },
    **{
        f"regnet_y_{size}": (channels, 4, 2)
        for size, channels in {
            "400mf": 440, "800mf": 784, "1_6gf": 888, "3_2gf": 1512, "8gf": 2016, "16gf": 3024, "32gf": 3712,
        }.items()
    },
}  # fmt: skip
SMALL = ("efficientnet_b0", "mobilenet_v3_small", "regnet_y_400mf", "convnext_tiny", "swin_v2_t", "maxvit_t")


@pytest.fixture(autouse=True)
def _regnets_on_the_meta_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision computes their widths with tensors, which need numbers even where the network needs none."""
    of_init = BlockParams.from_init_params

    def on_the_cpu(*arguments: object, **options: object) -> BlockParams:
        with torch.device("cpu"):
            return of_init(*arguments, **options)

    monkeypatch.setattr(BlockParams, "from_init_params", on_the_cpu)


def test_every_one_of_them_is_tested() -> None:
    prefixes = ("efficientnet_b", "efficientnet_v2", "convnext", "swin", "mobilenet", "regnet", "maxvit")
    assert {name for name in BACKBONES if name.startswith(prefixes)} == set(FAMILIES)


def side_of(backbone: str) -> int:
    return 224 if backbone == "maxvit_t" else 64


@pytest.mark.parametrize("backbone", FAMILIES)
def test_maps_stages_and_strides(backbone: str) -> None:
    channels, stages, frozen = FAMILIES[backbone]
    side = side_of(backbone)
    with torch.device("meta"):  # shapes without numbers
        trunk = BACKBONES.resolve(backbone)("none").eval()
        assert trunk(torch.empty(2, 3, side, 2 * side)).shape == (2, channels, side // 32, side // 16)
        before = trunk.stages[:frozen](torch.empty(1, 3, side, side))
        after = trunk.stages[frozen](before)
    sides = [value.shape[1 if backbone.startswith("swin") else 3] for value in (before, after)]
    assert sides == [side // 8, side // 16], "what is frozen by default is what comes before stride 16"
    assert trunk.out_channels == channels and trunk.kind == "map" and len(trunk.stages) == stages
    trained = {name.split(".")[1] for name, p in trunk.named_parameters() if p.requires_grad} - {"weight", "bias"}
    assert trained == {str(n) for n in range(frozen, stages)}


@pytest.mark.parametrize("backbone", SMALL)
def test_the_whole_trunk_is_torchvisions(backbone: str) -> None:
    torch.manual_seed(0)
    trunk = BACKBONES.resolve(backbone)("none").eval()
    torch.manual_seed(0)
    model = get_model(backbone, weights=None).eval()
    side = 224 if backbone == "maxvit_t" else 72
    images = torch.randn(1, 3, side, side)
    seen: list[Tensor] = []
    pooling = model.classifier[0] if backbone == "maxvit_t" else model.avgpool
    pooling.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(images)
        torch.testing.assert_close(trunk(images), seen[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backbone", SMALL)
def test_gradients_reach_what_is_trained(backbone: str) -> None:
    torch.manual_seed(0)
    size = (224, 224) if backbone == "maxvit_t" else (65, 97)
    trunk = BACKBONES.resolve(backbone)("none", cut=3, freeze=2).eval()
    features = trunk(torch.randn(1, 3, *size))
    assert features.shape[:2] == (1, trunk.out_channels)
    (features * torch.randn_like(features)).sum().backward()
    assert {name.split(".")[1] for name, p in trunk.named_parameters() if p.grad is not None} == {"2"}
    assert all((p.grad is not None) == p.requires_grad for p in trunk.parameters())


def test_cut_before_the_default_still_trains_something() -> None:
    with torch.device("meta"):
        trunk = BACKBONES.resolve("convnext_tiny")("none", cut=2)
        whole = BACKBONES.resolve("convnext_tiny")("none", freeze=0)
    assert {name.split(".")[1] for name, p in trunk.named_parameters() if p.requires_grad} == {"1"}
    assert trunk.out_channels == 192 and all(p.requires_grad for p in whole.parameters())


@pytest.mark.parametrize("backbone", ["efficientnet_b0", "mobilenet_v3_small", "regnet_y_400mf"])
def test_float32_inference_form(backbone: str) -> None:
    torch.manual_seed(0)
    network = build_network(backbone, "gem", "none").eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    images = torch.randint(0, 256, (5, 3, 65, 98), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
    actual = for_inference(network, Runtime(channels_last=True))(images)
    torch.testing.assert_close(actual, expected, atol=5e-5, rtol=1e-3)


@pytest.mark.parametrize("backbone", ["convnext_tiny", "swin_v2_t", "maxvit_t"])
def test_inference_form_with_attention_and_norms(backbone: str) -> None:
    torch.manual_seed(0)
    network = build_network(backbone, "netvlad", "none", cut=3, netvlad_clusters=3).eval()
    side = 112 if backbone == "maxvit_t" else 64
    images = torch.randint(0, 256, (2, 3, side, 2 * side), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(for_inference(network, Runtime())(images), expected, atol=1e-5, rtol=1e-3)
    half = for_inference(network, Runtime(amp_dtype=torch.bfloat16, channels_last=True))(images)
    assert half.dtype == torch.float32 and F.cosine_similarity(half, expected).min() > 0.97


@pytest.mark.parametrize("backbone", ["efficientnet_v2_s", "efficientnet_v2_l", *SMALL])
def test_pixels_are_those_of_the_weights(backbone: str) -> None:
    transforms = get_model_weights(backbone)["IMAGENET1K_V1"].transforms()
    with torch.device("meta"):
        trunk = BACKBONES.resolve(backbone)("none")
    assert getattr(trunk, "mean", (0.485, 0.456, 0.406)) == tuple(transforms.mean)
    assert getattr(trunk, "std", (0.229, 0.224, 0.225)) == tuple(transforms.std)


def test_weights_come_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = get_model("mobilenet_v3_small", weights=None).state_dict()
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    url = get_model_weights("mobilenet_v3_small")["IMAGENET1K_V1"].url
    torch.save(published, checkpoints / url.rsplit("/", 1)[1])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    trunk = BACKBONES.resolve("mobilenet_v3_small")("imagenet", cut=4)
    own = list(trunk.state_dict().values())
    features = [value for key, value in published.items() if key.startswith("features.")]
    assert all(torch.equal(a, b) for a, b in zip(own, features, strict=False))


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("swin_v2_t", {"cut": 5}, "--cut 5: swin_v2_t has no such stage. Expected a number from 1 to 4"),
        ("regnet_x_400mf", {"freeze": -1}, "--freeze -1: regnet_x_400mf has no such stage. Expected a number from 0"),
        ("convnext_tiny", {"cut": 1, "freeze": 2}, "--freeze 2: convnext_tiny has no such stage. Expected .* 0 to 1$"),
        ("convnext_tiny", {"trunc_te": 1}, "convnext_tiny with gem: no option 'trunc_te'"),
        ("efficientnet_b0", {"pretrain": "places"}, "--pretrain places: no such weights for efficientnet_b0"),
    ],
)
def test_refusals(backbone: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message), torch.device("meta"):
        build_network(backbone, "gem", **{"pretrain": "none", **options})


def test_maxvit_takes_what_falls_into_windows() -> None:
    with torch.device("meta"):
        trunk, cut = MaxViT("none"), MaxViT("none", cut=2)
        assert trunk(torch.empty(1, 3, 448, 672)).shape == (1, 512, 14, 21)
        assert cut(torch.empty(1, 3, 56, 112)).shape == (1, 128, 7, 14)
        message = "--backbone maxvit_t: the images are 480x640. Expected sides that are multiples of 224 .* 448 672$"
        with pytest.raises(UserError, match=message):
            trunk(torch.empty(1, 3, 480, 640))


@pytest.mark.parametrize("name", ["window_attention", "grid_attention"])
def test_who_attends_to_whom(name: str) -> None:
    """A change at one position of a 14x21 map reaches its window or its grid, and nothing else."""
    torch.manual_seed(0)
    layer = MaxViT("none", cut=1).get_submodule(f"stages.0.1.layers.0.layers.{name}").eval()
    assert isinstance(layer, PartitionAttention)
    x = torch.randn(1, 64, 14, 21)
    changed = x.clone()
    changed[0, :, 9, 4] += torch.randn(64)
    with torch.no_grad():
        reached = (layer(x) - layer(changed)).abs().amax(dim=1)[0] > 1e-7
    expected = torch.zeros(14, 21, dtype=torch.bool)
    if name == "window_attention":
        expected[7:14, 0:7] = True
    else:
        expected[1::2, 1::3] = True
    assert torch.equal(reached, expected)
