"""DINOv3 and any other network of timm, as backbones."""

from __future__ import annotations

import builtins

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models import BACKBONES, build_network, for_inference, rebuild_network
from vgbench.runtime import Runtime

timm = pytest.importorskip("timm")
DINOV3 = {"dinov3_vits16": (384, 12), "dinov3_vitb16": (768, 12), "dinov3_vitl16": (1024, 24)}
TINY_DINOV3 = "timm:vit_tiny_patch16_dinov3_qkvb"


VIT = {"cls_token", "pos_embed", "patch_embed", "blocks"}


def pixels(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("name", DINOV3)
def test_the_sizes_of_dinov3(name: str) -> None:
    channels, depth = DINOV3[name]
    with torch.device("meta"):
        trunk = BACKBONES.resolve(name)("none")
    assert trunk.out_channels == channels and trunk.stride == 16 and trunk.class_token
    trained = {key.split(".")[2] for key, p in trunk.named_parameters() if p.requires_grad and "blocks." in key}
    assert trained == {str(n) for n in range(depth - 4, depth)}
    others = {key for key, p in trunk.named_parameters() if p.requires_grad and "blocks." not in key}
    assert others == {"model.norm.weight", "model.norm.bias"}


def test_dinov3_hands_on_what_timm_computes() -> None:
    torch.manual_seed(0)
    trunk = BACKBONES.resolve(TINY_DINOV3)("none", unfreeze_blocks=1).eval()
    images = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        whole = trunk.model.forward_features(images)  # class, 4 registers, 15 patches
        tokens = trunk(images)
        trunk.kind = "map+token"
        features, token = trunk(images)
    assert torch.equal(tokens, torch.cat([whole[:, :1], whole[:, 5:]], dim=1))
    assert torch.equal(features.flatten(2).transpose(1, 2), whole[:, 5:]) and torch.equal(token, whole[:, 0])
    assert features.shape == (1, 192, 3, 5)


@pytest.mark.parametrize(
    ("aggregation", "kind", "options"),
    [
        ("cls", "tokens", {}),
        ("netvlad", "map", {"netvlad_clusters": 2}),
        ("salad", "map+token", {"num_clusters": 4, "cluster_dim": 8, "token_dim": 8}),
    ],
)
def test_transformers_describe(aggregation: str, kind: str, options: dict) -> None:
    torch.manual_seed(0)
    network = build_network(TINY_DINOV3, aggregation, "none", unfreeze_blocks=2, **options).eval()
    assert network.backbone.kind == kind
    images = pixels(48, 64)
    with torch.no_grad():
        expected = network(images)
        again = rebuild_network(network.config, network.state_dict()).eval()
        assert torch.equal(again(images), expected)
    torch.testing.assert_close(for_inference(network, Runtime())(images), expected, atol=1e-5, rtol=1e-4)
    half = for_inference(network, Runtime(amp_dtype=torch.bfloat16))(images)
    assert F.cosine_similarity(half, expected).min() > 0.97
    network(images).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in network.backbone.model.blocks.parameters())


# Plain convolutions, convolutions with padding of their own, with standardised weights, and maps with channels last.
MAPS = {"resnet18": 512, "tf_efficientnet_lite0": 1280, "nf_regnet_b0": 960, "swin_tiny_patch4_window7_224": 768}


@pytest.mark.parametrize("name", MAPS)
def test_convolutional_networks_give_maps(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(f"timm:{name}", "gem", "none").eval()
    assert network.backbone.kind == "map" and network.backbone.out_channels == MAPS[name]
    size = (224, 224) if "swin" in name else (97, 130)
    images = pixels(*size)
    with torch.no_grad():
        expected = network(images)
        features = network.local_features(images[:1])
    assert features.shape[:2] == (1, MAPS[name]) and expected.shape == (2, MAPS[name])
    torch.testing.assert_close(
        for_inference(network, Runtime(channels_last=True))(images), expected, atol=1e-5, rtol=1e-3
    )


def test_pixels_are_those_of_the_weights() -> None:
    network = build_network("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", "cls", "none")
    torch.testing.assert_close(network.mean.flatten(), torch.tensor([0.5, 0.5, 0.5]))
    assert build_network("timm:resnet18", "gem", "none").mean.flatten()[0] == pytest.approx(0.485)


def test_sequences_without_a_class_token_are_maps() -> None:
    torch.manual_seed(0)
    network = build_network("timm:vit_tiny_patch16_224", "gem", "none")
    mixer = build_network("timm:mixer_s32_224", "gem", "none").eval()
    assert network.backbone.kinds == ("map+token", "map", "tokens") and mixer.backbone.kind == "map"
    with torch.no_grad():
        tokens = mixer.backbone.model.forward_features(torch.zeros(1, 3, 224, 224))
        assert torch.equal(mixer.backbone(torch.zeros(1, 3, 224, 224)).flatten(2).transpose(1, 2), tokens)


@pytest.mark.parametrize(
    ("name", "options", "channels", "frozen", "trained"),
    [
        ("resnet18", {"freeze": 3}, 512, {"conv1", "bn1", "layer1", "layer2"}, {"layer3", "layer4"}),
        ("resnet18", {"cut": 3, "freeze": 2}, 128, {"conv1", "bn1", "layer1"}, {"layer2"}),
        ("resnet18", {"cut": 2}, 64, set(), {"conv1", "bn1", "layer1"}),
        ("convnext_atto", {"cut": 2, "freeze": 1}, 80, {"stem_0", "stem_1", "stages_0"}, {"stages_1"}),
        ("vit_tiny_patch16_224", {"freeze": 12}, 192, VIT, {"norm"}),
        ("vit_tiny_patch16_224", {"unfreeze_blocks": 0}, 192, {*VIT, "norm"}, set()),
    ],
)  # fmt: skip
def test_cut_and_freeze(name: str, options: dict, channels: int, frozen: set[str], trained: set[str]) -> None:
    trunk = BACKBONES.resolve(f"timm:{name}")("none", **options)
    assert trunk.out_channels == channels
    parts: dict[bool, set[str]] = {True: set(), False: set()}
    for key, parameter in trunk.named_parameters():
        parts[parameter.requires_grad].add(key.split(".")[1])
    assert (parts[False], parts[True]) == (frozen, trained)


def test_a_cut_transformer_is_a_map_and_freezes() -> None:
    trunk = BACKBONES.resolve("timm:vit_tiny_patch16_224")("none", cut=3, freeze=1)
    assert trunk.kind == "map" and trunk(torch.zeros(1, 3, 224, 224)).shape == (1, 192, 14, 14)
    assert {key.split("blocks.")[1][0] for key, p in trunk.named_parameters() if p.requires_grad} == {"1", "2"}


def test_weights_come_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    published = timm.create_model("convnext_atto").state_dict()
    asked: list[str] = []

    def load(repository: str, *arguments: object, **options: object) -> dict[str, Tensor]:
        asked.append(repository)
        return dict(published)

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", load)
    trunk = BACKBONES.resolve("timm:convnext_atto")("imagenet")
    assert asked == ["timm/convnext_atto.d2_in1k"]
    own = trunk.model.state_dict()
    assert len(own) > 90 and all(torch.equal(value, published[key]) for key, value in own.items() if "head" not in key)


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise FileNotFoundError("no network")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    hub = "timm/vit_small_patch16_dinov3.lvd1689m"
    message = (
        rf"weights of dinov3_vits16 cannot be downloaded \(no network\). .*huggingface.co/{hub} .*hf download {hub}"
    )
    with pytest.raises(UserError, match=message):
        build_network("dinov3_vits16", "cls")
    with pytest.raises(UserError, match=r"--pretrain imagenet: timm has no weights of timm:efficientnet_b8. Expected"):
        build_network("timm:efficientnet_b8", "gem")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "timm:resnet19"}, "--backbone timm:resnet19: timm does not know it. Did you mean timm:resnet18?"),
        ({"backbone": "timm:resnet18.a1_in2k"}, "timm does not know it. Did you mean timm:resnet18.a1_in1k?"),
        ({"cut": 6}, "--cut 6: timm:resnet18 has no such stage. Expected a number from 1 to 5"),
        ({"cut": 2, "freeze": 3}, "--freeze 3: timm:resnet18 has no such stage. Expected a number from 0 to 2"),
        ({"unfreeze_blocks": 1}, "--unfreeze_blocks 1: timm:resnet18 is no transformer with layers in a row"),
        ({"backbone": TINY_DINOV3, "unfreeze_blocks": 13}, "--unfreeze_blocks 13: .* no such number of layers"),
        ({"aggregation": "cls"}, "--aggregation cls: takes class_token of a sequence, but .* gives map"),
        ({"aggregation": "salad"}, "--aggregation salad: takes map.token, but --backbone timm:resnet18 gives map"),
        ({"backbone": "timm:coat_tiny"}, "timm:coat_tiny: its features are a list. Expected a map or tokens"),
        ({"trunc_te": 2}, "timm:resnet18 with gem: no option 'trunc_te'"),
        ({"pretrain": "places"}, "--pretrain places: no such weights for timm:resnet18"),
    ],
)  # fmt: skip
def test_refusals(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_network(**{"backbone": "timm:resnet18", "aggregation": "gem", "pretrain": "none", **arguments})


def test_images_of_another_size_are_refused() -> None:
    network = build_network(TINY_DINOV3, "cls", "none")
    with pytest.raises(UserError, match=r"the images are 60x100. Expected sides that are multiples of 16 .* 64 96$"):
        network(pixels(60, 100))
    network = build_network("timm:mixer_s32_224", "gem", "none")
    with pytest.raises(UserError, match=r"--backbone timm:mixer_s32_224: the images are 192x224 .*--resize 224 224$"):
        network(pixels(192, 224))


def test_timm_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: object, **options: object) -> object:
        if name == "timm":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"--backbone timm:resnet18: timm is not installed. .*pip install timm"):
        build_network("timm:resnet18", "gem", "none")
