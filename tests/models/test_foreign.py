"""Checkpoints of GSV-Cities, OpenVPRLab, SALAD, BoQ and Deep VG style load into the same network; no object runs."""

import collections
import os

import pytest
import torch
from torchvision.models import VisionTransformer

import parser
from vgbench.errors import UserError
from vgbench.models import build_network, network_from_options
from vgbench.models.backbones import dinov2
from vgbench.models.weights import load_weights, read_checkpoint

NAMES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def torchvision_names(key):
    parts = key.split(".")
    return ".".join(["backbone", "model", NAMES[parts[1]], *parts[2:]]) if parts[0] == "backbone" else key


STYLES = {
    "gsv-cities": lambda key: torchvision_names(key).replace("aggregation.", "aggregator."),
    "openvprlab": lambda key: key.replace("backbone.", "backbone.net.").replace("aggregation.", "aggregator."),
    "openvprlab wrapped": lambda key: "model." + key.replace("aggregation.", "aggregator."),
    "deep vg, parallel": lambda key: "module." + key,
    "compiled": lambda key: "_orig_mod." + key,
}


class Callback:
    """Stands for a class of the project that wrote the file, which is not installed here."""

    def __init__(self):
        self.history = [1.0, 2.0]


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmful_ran",)


def networks():
    pair = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        pair.append(build_network("resnet18conv4", "gem", "none", fc_output_dim=32))
    return pair


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("lightning", [False, True])
def test_every_style_fills_the_whole_network(style, lightning, tmp_path):
    source, target = networks()
    tensors = collections.OrderedDict((STYLES[style](key), value) for key, value in source.state_dict().items())
    if lightning:
        tensors["loss_fn.weight"] = torch.ones(3)
        content = {"state_dict": tensors, "callbacks": {"best": Callback()}, "epoch": 3, "hyper": collections.Counter()}
    else:
        content = tensors
    torch.save(content, tmp_path / "last.ckpt")
    load_weights(target, tmp_path / "last.ckpt")
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_gem_of_gsv_cities_is_normalised_after_it(tmp_path):
    torch.manual_seed(0)
    source, target = (build_network("resnet18conv4", "gem", "none", l2="after_pool") for _ in range(2))
    tensors = {key.replace("aggregation.0.p", "aggregator.p"): value for key, value in source.state_dict().items()}
    tensors["aggregator.p"] = torch.tensor([2.5])
    torch.save({"state_dict": tensors}, tmp_path / "last.ckpt")
    load_weights(target, tmp_path / "last.ckpt")
    assert target.state_dict()["aggregation.0.p"].item() == 2.5
    with pytest.raises(UserError):  # it would be normalised before the pooling, which is another network
        load_weights(build_network("resnet18conv4", "gem", "none"), tmp_path / "last.ckpt")


def test_dinov2_of_openvprlab_is_run_without_its_norm(tmp_path, monkeypatch):
    """Its file has dino.norm, which its network never applies."""
    monkeypatch.setattr(dinov2, "SIZES", {"vits": dinov2.Size(16, 4, 2)})
    torch.manual_seed(0)
    c, h = 16, 64
    shapes = {
        "backbone.dino.cls_token": (1, 1, c), "backbone.dino.pos_embed": (1, 1370, c),
        "backbone.dino.mask_token": (1, c), "backbone.dino.patch_embed.proj.weight": (c, 3, 14, 14),
        "backbone.dino.patch_embed.proj.bias": (c,), "backbone.dino.norm.weight": (c,), "backbone.dino.norm.bias": (c,),
        "aggregator.channel_pool.weight": (4, c, 1, 1), "aggregator.channel_pool.bias": (4,),
    }  # fmt: skip
    for block in (f"backbone.dino.blocks.{index}." for index in range(4)):
        shapes |= {
            f"{block}norm1.weight": (c,), f"{block}norm1.bias": (c,), f"{block}attn.qkv.weight": (3 * c, c),
            f"{block}attn.qkv.bias": (3 * c,), f"{block}attn.proj.weight": (c, c), f"{block}attn.proj.bias": (c,),
            f"{block}ls1.gamma": (c,), f"{block}norm2.weight": (c,), f"{block}norm2.bias": (c,),
            f"{block}mlp.fc1.weight": (h, c), f"{block}mlp.fc1.bias": (h,), f"{block}mlp.fc2.weight": (c, h),
            f"{block}mlp.fc2.bias": (c,), f"{block}ls2.gamma": (c,),
        }  # fmt: skip
    tensors = {key: torch.rand(shape) for key, shape in shapes.items()}
    torch.save({"state_dict": {f"model.{key}": value for key, value in tensors.items()}}, tmp_path / "last.ckpt")
    images = torch.randint(0, 256, (2, 3, 28, 42), dtype=torch.uint8)
    found = {}
    for flags in ("--no-norm_layer", "--norm_layer"):
        argv = ["--backbone=dinov2_vits14", "--aggregation=convap", "--out_channels=4", "--pretrain=none", flags]
        options = parser.resolve(parser.EvalSettings, parser.read_command_line(parser.EvalSettings, "", argv), {})
        network = network_from_options(options.network).eval()
        load_weights(network, tmp_path / "last.ckpt")
        network.backbone.kind = "tokens"
        with torch.inference_mode():
            found[flags] = network.local_features(images)
    normed = torch.nn.functional.layer_norm(
        found["--no-norm_layer"], (c,), tensors["backbone.dino.norm.weight"], tensors["backbone.dino.norm.bias"], 1e-6
    )
    torch.testing.assert_close(normed, found["--norm_layer"], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found["--no-norm_layer"], normed, atol=0.1)


def test_objects_in_a_checkpoint_do_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, target = networks()
    torch.save({"state_dict": source.state_dict(), "callbacks": [Harmful(), Callback()]}, "bad.ckpt")
    content = read_checkpoint(tmp_path / "bad.ckpt")
    load_weights(target, tmp_path / "bad.ckpt")
    assert torch.equal(target.state_dict()["backbone.0.weight"], source.state_dict()["backbone.0.weight"])
    assert not (tmp_path / "harmful_ran").exists()
    assert not isinstance(content["callbacks"][1], Callback)


def test_objects_alone_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Harmful(), "alone.ckpt")
    with pytest.raises(UserError, match=r"alone\.ckpt"):
        read_checkpoint(tmp_path / "alone.ckpt")
    assert not (tmp_path / "harmful_ran").exists()


def test_another_network_is_still_refused(tmp_path):
    source, _ = networks()
    torch.save({"state_dict": source.state_dict()}, tmp_path / "gem.ckpt")
    other = build_network("resnet18conv4", "netvlad", "none", netvlad_clusters=4)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(UserError, match="another network"):
        load_weights(other, tmp_path / "gem.ckpt")
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def hugging_face_vit(prefix, c=16, h=32, layers=2, patches=4):
    """A state dict under the keys of Hugging Face's ViTModel."""
    shapes = {
        "embeddings.cls_token": (1, 1, c), "embeddings.position_embeddings": (1, 1 + patches, c),
        "embeddings.patch_embeddings.projection.weight": (c, 3, 16, 16),
        "embeddings.patch_embeddings.projection.bias": (c,), "layernorm.weight": (c,), "layernorm.bias": (c,),
        "pooler.dense.weight": (c, c), "pooler.dense.bias": (c,),
    }  # fmt: skip
    for layer in (f"encoder.layer.{index}." for index in range(layers)):
        for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value",
                     "attention.output.dense"):  # fmt: skip
            shapes |= {f"{layer}{name}.weight": (c, c), f"{layer}{name}.bias": (c,)}
        shapes |= {f"{layer}intermediate.dense.weight": (h, c), f"{layer}intermediate.dense.bias": (h,)}
        shapes |= {f"{layer}output.dense.weight": (c, h), f"{layer}output.dense.bias": (c,)}
        for name in ("layernorm_before", "layernorm_after"):
            shapes |= {f"{layer}{name}.weight": (c,), f"{layer}{name}.bias": (c,)}
    return {prefix + key: 0.3 * torch.randn(shape) for key, shape in shapes.items()}


def vit_by_hand(tensors, images, heads=2, layers=2):
    """Float64 tokens [B,1+N,C]: pre-norm layers with exact GELU, as the paper and Hugging Face's configuration say."""
    w = {key: value.double() for key, value in tensors.items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred / (variance + 1e-12).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def split(x):
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    projection = "embeddings.patch_embeddings.projection"
    patches = images.double().unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = patches @ w[f"{projection}.weight"].flatten(1).T + w[f"{projection}.bias"]
    x = torch.cat([w["embeddings.cls_token"].expand(len(x), -1, -1), x], 1) + w["embeddings.position_embeddings"]
    for layer in (f"encoder.layer.{index}." for index in range(layers)):
        y = norm(x, f"{layer}layernorm_before")
        q, k, v = (split(linear(y, f"{layer}attention.attention.{name}")) for name in ("query", "key", "value"))
        attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + linear((attention @ v).transpose(1, 2).flatten(2), f"{layer}attention.output.dense")
        y = linear(norm(x, f"{layer}layernorm_after"), f"{layer}intermediate.dense")
        y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
        x = x + linear(y, f"{layer}output.dense")
    return norm(x, "layernorm")


@pytest.mark.parametrize("prefix", ["module.backbone.vit_model.", "backbone."])
def test_the_vit_of_deep_vg_computes_what_it_did_there(prefix, tmp_path, monkeypatch):
    tiny = VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    monkeypatch.setattr("vgbench.models.backbones.vit.torchvision_model", lambda *arguments: tiny)
    network = build_network("vit", "cls", "none").eval()
    torch.manual_seed(0)
    tensors = hugging_face_vit(prefix)
    torch.save({"model_state_dict": tensors, "recalls": [1.0]}, tmp_path / "best_model.pth")
    load_weights(network, tmp_path / "best_model.pth")
    images = torch.randn(2, 3, 32, 32)
    expected = vit_by_hand({key.removeprefix(prefix): value for key, value in tensors.items()}, images)
    with torch.inference_mode():
        torch.testing.assert_close(network.backbone(images).double(), expected, atol=1e-4, rtol=1e-4)
    lacking = {key: value for key, value in tensors.items() if not key.endswith("1.attention.attention.key.weight")}
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(UserError, match=r"1 of another shape \(backbone.layers.1.self_attention.in_proj_weight"):
        load_weights(network, tmp_path / "lacking.pth")
