"""DINOv2: the published files' keys, an independent implementation, other image sizes, what is trained."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models import BACKBONES, build_network, for_inference
from vgbench.models.backbones import dinov2
from vgbench.models.backbones.tokens import resized_positions
from vgbench.runtime import Runtime

DIMS = {"vits": (384, 12), "vitb": (768, 12), "vitl": (1024, 24), "vitg": (1536, 40)}
NAMES = [f"dinov2_{size}14{suffix}" for size in DIMS for suffix in ("", "_reg")]


def published_shapes(size: str, registers: bool) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of the published files."""
    dim, depth = DIMS[size]
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1370, dim),
        "mask_token": (1, dim),
        "patch_embed.proj.weight": (dim, 3, 14, 14),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }
    if registers:
        shapes["register_tokens"] = (1, 4, dim)
    first, second, hidden = ("w12", "w3", 4096) if size == "vitg" else ("fc1", "fc2", 4 * dim)
    inner = 2 * hidden if size == "vitg" else hidden
    for block in (f"blocks.{index}" for index in range(depth)):
        shapes |= {f"{block}.{norm}.{part}": (dim,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        shapes |= {f"{block}.{scale}.gamma": (dim,) for scale in ("ls1", "ls2")}
        shapes |= {f"{block}.attn.qkv.weight": (3 * dim, dim), f"{block}.attn.qkv.bias": (3 * dim,)}
        shapes |= {f"{block}.attn.proj.weight": (dim, dim), f"{block}.attn.proj.bias": (dim,)}
        shapes |= {f"{block}.mlp.{first}.weight": (inner, dim), f"{block}.mlp.{first}.bias": (inner,)}
        shapes |= {f"{block}.mlp.{second}.weight": (dim, hidden), f"{block}.mlp.{second}.bias": (dim,)}
    return shapes


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """vits with four layers."""
    monkeypatch.setitem(dinov2.SIZES, "vits", dinov2.Size(384, 4, 6))


def drawn(name: str = "dinov2_vits14", **options: object) -> dinov2.DINOv2:
    """A network whose every tensor matters: norms, scales and tokens are not at their neutral values."""
    torch.manual_seed(0)
    trunk = BACKBONES.resolve(name)("none", **options)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return trunk.eval()


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes_of_the_published_files(name: str) -> None:
    size = name.removeprefix("dinov2_")[:4]
    with torch.device("meta"):
        trunk = BACKBONES.resolve(name)("none")
        features, token = trunk(torch.empty(1, 3, 28, 42))
    assert {key: tuple(value.shape) for key, value in trunk.state_dict().items()} == published_shapes(
        size, name.endswith("_reg")
    )
    assert features.shape == (1, DIMS[size][0], 2, 3) and token.shape == (1, DIMS[size][0])
    assert trunk.out_channels == DIMS[size][0]


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("registers", [0, 4])
def test_another_implementation_agrees(registers: int) -> None:
    timm = pytest.importorskip("timm")
    trunk = drawn("dinov2_vits14" + ("_reg" if registers else ""))
    trunk.kind = "tokens"
    other = timm.create_model(
        f"vit_small_patch14_{'reg4_' if registers else ''}dinov2", num_classes=0, depth=4, img_size=518
    ).eval()
    weights = {key: value for key, value in trunk.state_dict().items() if key != "mask_token"}
    if registers:  # there, the class token's position is added to it beforehand
        weights["cls_token"] = weights["cls_token"] + weights["pos_embed"][:, :1]
        weights["pos_embed"] = weights["pos_embed"][:, 1:]
        weights["reg_token"] = weights.pop("register_tokens")
    other.load_state_dict(weights)
    images = torch.randn(1, 3, 518, 518)
    with torch.no_grad():
        expected = other.forward_features(images)
        expected = torch.cat([expected[:, :1], expected[:, 1 + registers :]], dim=1)
        torch.testing.assert_close(trunk(images), expected, atol=2e-4, rtol=1e-4)


def test_the_gated_mlp_by_hand() -> None:
    torch.manual_seed(0)
    layer = dinov2.SwiGLU(16)
    x = torch.randn(3, 16)
    hidden = layer.w3.in_features
    assert hidden == 48  # two thirds of 64, to a multiple of 8
    weight, bias = layer.w12.weight.double(), layer.w12.bias.double()
    gate = x.double() @ weight[:hidden].T + bias[:hidden]
    value = x.double() @ weight[hidden:].T + bias[hidden:]
    expected = (gate / (1 + (-gate).exp()) * value) @ layer.w3.weight.double().T + layer.w3.bias.double()
    torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=1e-4)


def cubic_weights(source: int, size: int, scale: float) -> Tensor:
    """The matrix [size,source] of bicubic interpolation (a = -0.75) along an axis, float64."""
    a = -0.75
    matrix = torch.zeros(size, source, dtype=torch.float64)
    for i in range(size):
        centre = (i + 0.5) / scale - 0.5
        left = int(torch.tensor(centre).floor())
        for j in range(left - 1, left + 3):
            d = abs(centre - j)
            near = ((a + 2) * d - (a + 3)) * d * d + 1
            far = a * (((d - 5) * d + 8) * d - 4)
            matrix[i, min(max(j, 0), source - 1)] += near if d <= 1 else far
    return matrix


@pytest.mark.parametrize(("height", "width"), [(23, 31), (16, 16), (40, 37), (1, 5)])
def test_positions_without_registers_are_scaled_with_the_published_offset(height: int, width: int) -> None:
    torch.manual_seed(0)
    positions = torch.randn(1, 37 * 37, 5)
    grid = positions[0].double().view(37, 37, 5)
    rows, columns = cubic_weights(37, height, (height + 0.1) / 37), cubic_weights(37, width, (width + 0.1) / 37)
    expected = torch.einsum("ij,jkc->ikc", rows, torch.einsum("lk,jkc->jlc", columns, grid))
    actual = resized_positions(positions, height, width, antialias=False, offset=dinov2.OFFSET)
    assert actual.shape == (1, height * width, 5)
    torch.testing.assert_close(actual[0].double().view(height, width, 5), expected, atol=1e-4, rtol=1e-4)


def test_positions_at_the_native_size_are_the_learned_ones() -> None:
    with torch.device("meta"):
        plain, registers = (BACKBONES.resolve(name)("none") for name in ("dinov2_vits14", "dinov2_vits14_reg"))
    for trunk in (plain, registers):
        trunk.pos_embed = torch.nn.Parameter(torch.randn(1, 1370, 384))
        assert torch.equal(trunk._positions(37, 37), trunk.pos_embed[:, 1:])
    smaller = registers._positions(20, 30)
    grid = registers.pos_embed[:, 1:].view(1, 37, 37, 384).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, size=(20, 30), mode="bicubic", antialias=True)
    torch.testing.assert_close(smaller.view(1, 20, 30, 384).permute(0, 3, 1, 2), expected)


@pytest.mark.usefixtures("shallow")
def test_forms_and_registers() -> None:
    trunk = drawn("dinov2_vits14_reg")
    images = torch.randn(2, 3, 42, 70)
    with torch.no_grad():
        features, token = trunk(images)
        trunk.kind = "tokens"
        tokens = trunk(images)
        trunk.kind = "map"
        assert torch.equal(trunk(images), features)
        assert tokens.shape == (2, 16, 384) and torch.equal(tokens[:, 0], token)
        assert torch.equal(features.flatten(2).transpose(1, 2), tokens[:, 1:])
        # One image is described the same, alone.
        torch.testing.assert_close(trunk(images[1:]), features[1:], atol=1e-4, rtol=1e-4)
        trunk.register_tokens += torch.randn(1, 4, 384)
        assert not torch.allclose(trunk(images), features, atol=1e-3), "registers take part in the attention"


@pytest.mark.usefixtures("shallow")
def test_the_norm_can_be_left_out() -> None:
    images = torch.randn(1, 3, 28, 28)
    with_norm, without = drawn(), drawn(norm_layer=False)
    with_norm.kind = without.kind = "tokens"
    with torch.no_grad():
        torch.testing.assert_close(with_norm.norm(without(images)), with_norm(images))
    assert with_norm.norm.weight.requires_grad


@pytest.mark.parametrize(("blocks", "trained"), [(None, {"8", "9", "10", "11"}), (1, {"11"}), (0, set())])
def test_what_is_trained(blocks: int | None, trained: set[str]) -> None:
    options = {} if blocks is None else {"unfreeze_blocks": blocks}
    with torch.device("meta"):
        trunk = BACKBONES.resolve("dinov2_vits14_reg")("none", **options)
    names = [name for name, p in trunk.named_parameters() if p.requires_grad]
    assert {name.split(".")[1] for name in names if name.startswith("blocks.")} == trained
    assert {name for name in names if not name.startswith("blocks.")} == (
        {"norm.weight", "norm.bias"} if trained else set()
    )


@pytest.mark.usefixtures("shallow")
def test_gradients() -> None:
    trunk = drawn(unfreeze_blocks=1)
    features, token = trunk(torch.randn(1, 3, 28, 42))
    (features.square().sum() + token.square().sum()).backward()
    assert all((p.grad is not None) == p.requires_grad for p in trunk.parameters())
    assert all(p.grad.abs().sum() > 0 for p in trunk.parameters() if p.grad is not None)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("aggregation", "kind", "options"),
    [
        ("salad", "map+token", {"num_clusters": 4, "cluster_dim": 8, "token_dim": 8}),
        ("megaloc", "map+token", {"num_clusters": 4, "cluster_dim": 8, "token_dim": 8, "feat_dim": 16}),
        ("gem", "map", {}),
        ("netvlad", "map", {"netvlad_clusters": 4}),
        ("boq", "map", {"proj_channels": 64, "row_dim": 2}),
        ("mixvpr", "map", {"resize": (42, 56), "out_channels": 8, "mix_depth": 1}),
        ("cls", "tokens", {}),
    ],
)
def test_every_aggregation_gets_the_form_that_it_takes(aggregation: str, kind: str, options: dict) -> None:
    torch.manual_seed(0)
    network = build_network("dinov2_vits14", aggregation, "none", unfreeze_blocks=1, **options).eval()
    assert network.backbone.kind == kind and network.config["unfreeze_blocks"] == 1
    images = torch.randint(0, 256, (2, 3, 42, 56), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
    assert expected.shape == (2, network.descriptors_dim)
    torch.testing.assert_close(for_inference(network, Runtime())(images), expected, atol=1e-5, rtol=1e-4)
    half = for_inference(network, Runtime(amp_dtype=torch.bfloat16, channels_last=True))(images)
    assert half.dtype == torch.float32 and F.cosine_similarity(half, expected).min() > 0.98


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("name", "file"),
    [("dinov2_vits14", "dinov2_vits14_pretrain.pth"), ("dinov2_vits14_reg", "dinov2_vits14_reg4_pretrain.pth")],
)
def test_published_files_are_read_from_the_cache(
    name: str, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published = copy.deepcopy(drawn(name).state_dict())
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(published, checkpoints / file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    trunk = BACKBONES.resolve(name)("imagenet")
    assert all(torch.equal(value, published[key]) for key, value in trunk.state_dict().items())
    torch.save({key: published[key] for key in published if key != "cls_token"}, checkpoints / file)
    with pytest.raises(UserError, match=rf"{name}, {file}: state dict: of another network: 1 missing \(cls_token\)"):
        BACKBONES.resolve(name)("imagenet")


@pytest.mark.usefixtures("shallow")
def test_files_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from urllib.error import URLError

    def refuse(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    url = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_reg4_pretrain.pth"
    with pytest.raises(UserError, match=f"weights of dinov2_vits14_reg cannot be downloaded .*{url}"):
        BACKBONES.resolve("dinov2_vits14_reg")("imagenet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unfreeze_blocks": 13}, "--unfreeze_blocks 13: .* has no such number of layers. Expected .* 0 to 12$"),
        ({"unfreeze_blocks": -1}, "--unfreeze_blocks -1: dinov2_vits14 has no such number of layers"),
        ({"pretrain": "places"}, "--pretrain places: no such weights for dinov2_vits14"),
        ({"aggregation": "seqpool"}, "--aggregation seqpool: takes pool_sequence of a sequence, but --backbone dinov2"),
    ],
)  # fmt: skip
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message), torch.device("meta"):
        build_network(**{"backbone": "dinov2_vits14", "aggregation": "gem", "pretrain": "none", **options})


def test_images_of_another_size_are_refused() -> None:
    message = "--backbone dinov2_vits14: the images are 480x640. Expected .* multiples of 14 .*--resize 476 644$"
    with torch.device("meta"):
        trunk = BACKBONES.resolve("dinov2_vits14")("none")
        with pytest.raises(UserError, match=message):
            trunk(torch.empty(1, 3, 480, 640))


@torch.no_grad()
def test_tokens_that_aggregate_are_handed_on_alone(monkeypatch) -> None:
    monkeypatch.setitem(dinov2.SIZES, "vits", dinov2.Size(32, 3, 2))
    network = build_network("dinov2_vits14_reg", "image", "none", num_tokens=3, unfreeze_blocks=2).eval()
    trunk = network.backbone
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    images = torch.randn(2, 3, 42, 28)
    plain = build_network("dinov2_vits14_reg", "gem", "none", unfreeze_blocks=2).eval().backbone
    plain.load_state_dict({k: v for k, v in trunk.state_dict().items() if k != "learnable_aggregation_tokens"})
    tokens = []
    plain.blocks[0].register_forward_hook(lambda module, inputs, output: tokens.append(output))
    plain(images)
    x = torch.cat([tokens[0], trunk.learnable_aggregation_tokens.expand(2, -1, -1)], dim=1)  # last: their place is free
    for block in plain.blocks[1:]:
        x = block(x)
    expected = F.normalize(plain.norm(x)[:, -3:].flatten(1), dim=1)
    assert network.descriptors_dim == 96 and network(images).shape == (2, 96)
    torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=1e-4)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert "backbone.learnable_aggregation_tokens" in trained
    with pytest.raises(UserError, match="--unfreeze_blocks 0: no layer of dinov2_vits14_reg"):
        build_network("dinov2_vits14_reg", "image", "none", unfreeze_blocks=0)
    with pytest.raises(UserError, match="--aggregation image: takes aggregation_tokens of a sequence"):
        build_network("resnet18conv4", "image", "none")


@torch.no_grad()
def test_the_attention_of_the_class_token_and_positions_with_an_offset(monkeypatch) -> None:
    monkeypatch.setitem(dinov2.SIZES, "vits", dinov2.Size(32, 2, 2))
    network = build_network(
        "dinov2_vits14", "fol", "none", num_clusters=2, cluster_dim=3, token_dim=4, mlp_dim=5, unfreeze_blocks=1
    ).eval()
    trunk, images = network.backbone, torch.randn(2, 3, 42, 28)
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features, token, attention = trunk(images)
    seen = []
    trunk.blocks[-1].norm1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    trunk.kind = "map+token"
    for one, other in zip(trunk(images), (features, token), strict=True):
        assert torch.equal(one, other)
    layer = trunk.blocks[-1].attn
    q, k, _ = (seen[0].double() @ layer.qkv.weight.double().T + layer.qkv.bias.double()).chunk(3, dim=-1)
    heads = [torch.softmax(q[..., s] @ k[..., s].transpose(1, 2) / 4, dim=-1) for s in (slice(0, 16), slice(16, 32))]
    torch.testing.assert_close(attention.double(), sum(heads)[:, 0, 1:], atol=1e-6, rtol=1e-5)
    plain, registers = (dinov2.DINOv2("vits", count, "none", positions="offset", unfreeze_blocks=1) for count in (0, 4))
    registers.pos_embed.copy_(plain.pos_embed)
    assert torch.equal(registers._positions(5, 9), plain._positions(5, 9))
    with pytest.raises(UserError, match="positions learned are not known"):
        dinov2.DINOv2("vits", 0, "none", positions="learned", unfreeze_blocks=1)
