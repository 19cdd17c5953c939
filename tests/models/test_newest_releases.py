"""Released networks of 2024 to 2026: files of their names, shapes and keys fill them; small ones, written here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from token_networks import small_deit
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models import Network, build_network, rebuild_network
from vgbench.models.backbones import deit, dinov2
from vgbench.models.release_kinds import OwnRelease
from vgbench.models.releases import RELEASES, load_release, release_of

C = 64


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for size, layers in (("vitb", 9), ("vitl", 4)):
        monkeypatch.setitem(dinov2.SIZES, size, dinov2.Size(C, layers, 4))
    monkeypatch.setattr(deit.timm, "create_model", small_deit)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def smaller(name: str, monkeypatch: pytest.MonkeyPatch, **parts: Any) -> OwnRelease:
    """The release with heads that are small enough for a test."""
    release = release_of(name)
    assert isinstance(release, OwnRelease)
    small = replace(release, parts={**release.parts, **parts})
    monkeypatch.setitem(RELEASES, name, small)
    return small


def of_data_parallel(key: str) -> str:
    """Lu's and Jin's files: what is no backbone has no prefix, or `aggregation`."""
    renamed = re.sub(r"^aggregation\.(encoder|fc|decoder|queries|channel_proj|row_proj|local)\b", r"\1", key)
    renamed = renamed.replace("backbone.learnable_aggregation_tokens", "learnable_aggregation_tokens")
    return "module." + renamed


def of_salad(key: str) -> str:
    return key.replace("backbone.", "backbone.model.").replace("aggregation.", "aggregator.")


def of_vlad_buff(key: str) -> str:
    renamed = key.replace("aggregation.1.", "WPCA_12.0.").replace("aggregation.0.", "aggregator.")
    return renamed.replace("backbone.", "backbone.model.")


def of_fol(key: str) -> str:
    return "module." + of_salad(key).replace("aggregator.upconv", "upconv")


def of_dino_mix(key: str) -> str:
    return key.replace("backbone.", "backbone.dino_model.").replace("aggregation.", "aggregator.")


def test_the_page_names_what_is_there() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    section = page.split("## Networks as")[1].split("\n## ")[0]
    named = set()
    for words in re.findall(r"`([a-z][\w|-]+)`", section):
        start, _, endings = words.rpartition("-") if "|" in words else (words, "", "")
        named |= {f"{start}-{ending}" for ending in endings.split("|")} if endings else {words}
    assert named <= RELEASES.keys()
    families = ("cosplace-", "eigenplaces-", "convap-", "mixvpr-", "anyloc-", "radenovic", "naver")
    assert {name for name in RELEASES if not name.startswith(families)} <= named


def of_selavpr(key: str) -> str:
    renamed = key.replace(".attn.adapter.", ".adapter1.").replace(".mlp.adapter.", ".adapter2.")
    renamed = renamed.replace("aggregation.local.", "LocalAdapt.").replace("aggregation.gem.p", "aggregation.1.p")
    return "module." + re.sub(r"(adapter\d\.)(down|up)\.", lambda found: found[1] + FC[found[2]], renamed)


def of_selavpr_pp(key: str, hashing: bool = False) -> str:
    """One branch's keys; the other's layers are linear3, linear4, aggregation_hashing and adapters_hashing."""
    branches = {"one.": "branch1.", "three.": "branch2.", "five.": "branch3.", **{f"{k}.": v for k, v in FC.items()}}
    if key.startswith("backbone.side."):
        _, _, layer, part, *inner = key.split(".")
        if part in ("one", "three", "five"):
            inner[-2] = {"0": "conv", "1": "bn"}[inner[-2]]
        words = [layer, branches[f"{part}."].rstrip("."), *inner]
        return "module.backbone.adapters" + "_hashing" * hashing + "." + ".".join(words)
    linear = {"aggregation.linear1": "linear3", "aggregation.linear2": "linear4"} if hashing else {}
    linear = linear or {"aggregation.linear1": "linear1", "aggregation.linear2": "linear2"}
    for ours, theirs in linear.items():
        key = key.replace(ours, theirs)
    return "module." + key.replace("aggregation.gem.p", "aggregation" + "_hashing" * hashing + ".1.p")


def of_edtformer(key: str) -> str:
    renamed = key.replace("backbone.side.", "backbone.adapters.")
    return of_data_parallel(re.sub(r"(adapters\.\d\.)(down|up)\.", lambda found: found[1] + FC[found[2]], renamed))


def of_cricavpr(key: str) -> str:
    if key.startswith("backbone.side."):
        layer = key.split(".")[2]
        return of_selavpr_pp(key).replace(f"adapters.{layer}.", f"blocks.{layer}.adapter.")
    return of_data_parallel(key.replace("aggregation.gem.p", "aggregation.1.p"))


def of_pairvpr(key: str) -> str:
    return key.replace("backbone.", "encoder.model.").replace("aggregation.", "")


def of_r2former(key: str) -> str:
    renamed = key.replace("backbone.model.", "backbone.").replace("aggregation.reranker.", "Reranker.")
    renamed = re.sub(r"^aggregation\.(head|head_dist)\.", r"backbone.\1.", renamed)
    return "module." + renamed.replace("aggregation.", "")


def of_stage_one(dim: int) -> dict[str, Tensor]:
    """What Pair-VPR's files have besides: the masked pixels' layer and token, and the positions."""
    return {
        "mask_token": torch.zeros(1, 1, dim), "prediction_head.weight": torch.zeros(588, dim),
        "prediction_head.bias": torch.zeros(588), "dec_pos_embed": torch.zeros(529, dim),
        "dec_pos_embed_cls": torch.zeros(530, dim),
    }  # fmt: skip


FC = {"down": "D_fc1.", "up": "D_fc2."}
SALAD = {"num_clusters": 4, "cluster_dim": 3, "token_dim": 5, "mlp_dim": 9}
CASES: list[tuple[str, dict[str, Any], Callable[[str], str], str]] = [
    ("supervlad", {}, of_data_parallel, "module.aggregation.conv.weight"),
    ("supervlad-crossimage", {}, of_data_parallel, "module.encoder.layers.1.self_attn.in_proj_weight"),
    ("supervlad-1cluster", {}, of_data_parallel, "module.aggregation.conv.weight"),
    ("image", {}, of_data_parallel, "module.learnable_aggregation_tokens"),
    ("qaa", {"feature_nheads": 4, "score_nheads": 4}, of_salad, "aggregator.queries_score.self_attn.in_proj_weight"),
    ("vlad-buff", {"netvlad_clusters": 4, "nv_pca": 6, "fc_output_dim": 12}, of_vlad_buff, "WPCA_12.0.weight"),
    ("fol", SALAD, of_fol, "module.upconv2.weight"),
    ("fol-base", SALAD, of_fol, "module.aggregator.cluster_features.3.weight"),
    ("selavpr", {}, of_selavpr, "module.backbone.blocks.1.adapter2.D_fc1.weight"),
    ("selavpr-pp", {"feat_dim": 24}, of_selavpr_pp, "module.backbone.adapters.2.branch2.1.bn.running_var"),
    ("selavpr-pp-large", {"feat_dim": 24}, of_selavpr_pp, "module.linear2.weight"),
    ("edtformer", {"num_queries": 6, "row_dim": 3}, of_edtformer, "module.backbone.adapters.8.D_fc2.bias"),
    ("cricavpr", {}, of_cricavpr, "module.backbone.blocks.8.adapter.branch3.1.bn.running_mean"),
    ("pairvpr-vitb", {"decoder_dim": 12, "decoder_depth": 2, "decoder_heads": 2}, of_pairvpr,
     "dec_blocks.1.cross_attn.projk.weight"),
    ("r2former", {}, of_r2former, "module.Reranker.blocks_2.1.attn.qkv.weight"),
    ("dino-mix", {"out_channels": 8}, of_dino_mix, "backbone.dino_model.blocks.3.ls2.gamma"),
]  # fmt: skip


SIZES = {"dino-mix": (224, 224), "r2former": (64, 96)}


def theirs_of(source: Network, rename: Callable[[str], str]) -> dict[str, Tensor]:
    """A file's tensors: DINOv2 without what it does not apply, kernels as their authors' convolutions have them."""
    tensors = {rename(key): value.clone() for key, value in source.state_dict().items()}
    tensors = {key: value for key, value in tensors.items() if ".norm." not in key or "dino_model" not in key}
    return {
        key: value[:, :, None, None] if "WPCA" in key and value.dim() == 2 else value for key, value in tensors.items()
    }


@pytest.mark.parametrize(("name", "parts", "rename", "key"), CASES, ids=[case[0] for case in CASES])
def test_a_file_with_the_authors_keys_fills_every_weight(
    name: str, parts: dict, rename: Callable, key: str, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = smaller(name, monkeypatch, **parts)
    torch.manual_seed(3)
    source = build_network(**release.parts, pretrain="none", resize=release.size)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tensors = theirs_of(source, rename)
    if name.startswith("pairvpr"):
        tensors |= of_stage_one(12)
    if name == "r2former":
        tensors |= {
            "module.Reranker.decoder_pos_embed": torch.zeros(1, 1001, 32),
            "module.Reranker.ratio": torch.ones(1),
        }
    assert key in tensors and len(tensors) >= len(source.state_dict()) - 2
    if release.file.name.endswith(".safetensors"):
        save_file(tensors, checkpoints / release.file.name)
    else:
        holder = "state_dict" if release.file.name.endswith(".ckpt") else "model_state_dict"
        torch.save({holder: tensors, "epoch_num": 3}, checkpoints / release.file.name)
    network = load_release(name)
    unused = set() if name != "dino-mix" else {"backbone.norm.weight", "backbone.norm.bias"}
    for own, value in source.state_dict().items():
        assert own in unused or torch.equal(network.state_dict()[own], value), own
    assert network.config == {"method": name}
    again = rebuild_network(network.config, network.state_dict())
    images = torch.randint(0, 256, (2, 3, *SIZES.get(name, (126, 126))), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(images), network.eval()(images), atol=1e-5, rtol=1e-4)
    less = dict(tensors)
    del less[key]
    torch.save(less, checkpoints.parent / "less.pth")
    with pytest.raises(UserError, match=r"less\.pth"):
        load_release(name, weights=checkpoints.parent / "less.pth")


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("supervlad", 4 * C), ("supervlad-1cluster", C), ("image", 8 * C), ("image-gsv", 8 * C), ("qaa", 8192),
        ("qaa-1024", 1024), ("qaa-2048", 2048), ("qaa-4096", 4096), ("vlad-buff", 4096), ("vlad-buff-8192", 8192),
        ("fol", 8448), ("fol-base", 8448), ("dino-mix", 4096), ("edtformer", 4096),
        ("cricavpr", 14 * C),
        ("r2former", 256), ("pairvpr-vitb", 512), ("pairvpr-vitl", 512), ("pairvpr-vitg", 512),
    ],
)  # fmt: skip
def test_dimensions_with_64_channels_in_the_place_of_768(name: str, dimensions: int) -> None:
    with torch.device("meta"):
        assert release_of(name).build(name, trained=False).descriptors_dim == dimensions


def test_networks_that_mix_a_batch_say_so() -> None:
    with torch.device("meta"):
        networks = {name: release_of(name).build(name, trained=False) for name, *_ in CASES}
    assert {name for name, network in networks.items() if network.mixes_batch} == {"supervlad-crossimage", "cricavpr"}
    assert networks["cricavpr"].mixed_batch == 16
    assert networks["supervlad-crossimage"].mixed_batch == 8


def qaa_file(path: Path, config: dict[str, Any] | None, **parts: Any) -> Network:
    source = build_network("dinov2_vitb14", "qaa", "none", feature_nheads=2, score_nheads=8, num_queries=9, **parts)
    save_file({of_salad(key): value.contiguous() for key, value in source.state_dict().items()}, path)
    if config is not None:
        (path.parent / "config.json").write_text(json.dumps({"model_config_dict": config}))
    return source.eval()


def test_qaa_is_built_as_its_file_and_its_configuration_say(tmp_path: Path) -> None:
    config = {
        "backbone_arch": "dinov2_vitb14", "backbone_config": {"norm_layer": False, "num_trainable_blocks": 4},
        "agg_arch": "QAA", "agg_config": {"num_channels": C, "feature_nheads": 2, "score_nheads": 8, "out_norm": True},
    }  # fmt: skip
    source = qaa_file(
        tmp_path / "model.safetensors", config, num_clusters=8, cluster_dim=16, norm_layer=False, out_norm=True
    )
    network = load_release("qaa-1024", weights=tmp_path / "model.safetensors").eval()
    images = torch.randint(0, 256, (2, 3, 70, 70), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), source(images), atol=1e-5, rtol=1e-4)
        again = rebuild_network(network.config, network.state_dict()).eval()
        torch.testing.assert_close(again(images), source(images), atol=1e-5, rtol=1e-4)
    assert network.config["num_clusters"] == 8 and "method" not in network.config
    config["agg_config"]["attn_arch"] = "mlp"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json: asks for .*attn_arch.*mlp"):
        load_release("qaa", weights=tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json: is no configuration of QAA"):
        load_release("qaa", weights=tmp_path / "model.safetensors")
    for other, line in (
        ({"backbone_arch": f"os:mkdir {tmp_path}/made"}, "backbone 'os:mkdir"),
        ({"backbone_arch": "timm:resnet18"}, "backbone 'timm:resnet18'"),
        ({"agg_config": {"feature_nheads": 10**9}}, "says .*feature_nheads"),
        ({"agg_config": {"feature_nheads": 7}}, "7 attention heads for 16"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"backbone_arch": "dinov2_vitb14", **other}))
        with pytest.raises(UserError, match=line):
            load_release("qaa", weights=tmp_path / "model.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: holds no QAA network"):
        load_release("qaa", weights=tmp_path / "model.safetensors")


@torch.no_grad()
def test_netvlad_trained_on_several_gpus_with_a_whitening(tmp_path: Path) -> None:
    from vgbench.models import load_weights

    torch.manual_seed(0)
    source, target = (build_network("vgg16", "netvlad", "none", netvlad_clusters=4, fc_output_dim=10) for _ in range(2))
    names = {"backbone.": "encoder.module.", "aggregation.0.": "pool.module.", "aggregation.1.": "WPCA.0."}
    tensors = {}
    for key, value in source.state_dict().items():
        ours = next(part for part in names if key.startswith(part))
        four = value[:, :, None, None] if key == "aggregation.1.weight" else value
        tensors[names[ours] + key.removeprefix(ours)] = four
    torch.save({"num_pcs": 10, "state_dict": tensors, "epoch": 4}, tmp_path / "patch.pth.tar")
    load_weights(target, tmp_path / "patch.pth.tar")
    assert all(torch.equal(target.state_dict()[key], value) for key, value in source.state_dict().items())


def test_a_file_of_both_branches_of_selavpr_pp(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, tensors = {}, {}
    for name, hashing in (("selavpr-pp-rerank", False), ("selavpr-pp-hashing", True)):
        release = smaller(name, monkeypatch, feat_dim=24)
        sources[name] = build_network(**release.parts, pretrain="none", resize=release.size)
        for parameter in sources[name].parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        if tensors:  # they share the transformer
            shared = {key: value for key, value in sources["selavpr-pp-rerank"].state_dict().items() if "block" in key}
            sources[name].load_state_dict({**sources[name].state_dict(), **shared})
        branch = {of_selavpr_pp(key, hashing): value for key, value in sources[name].state_dict().items()}
        assert not tensors or {key for key in branch if "hashing" in key}
        tensors = {**branch, **{key: value for key, value in tensors.items() if key not in branch or "block" in key}}
    common = (
        "backbone.cls_token",
        "backbone.pos_embed",
        "backbone.mask_token",
        "backbone.patch_embed",
        "backbone.norm",
    )
    torch.save({"model_state_dict": tensors}, checkpoints / release_of("selavpr-pp-hashing").file.name)
    for name, source in sources.items():
        network = load_release(name)
        for key, value in source.state_dict().items():
            if not key.startswith(common):
                assert torch.equal(network.state_dict()[key], value), key
    images = torch.randint(0, 256, (2, 3, 126, 126), dtype=torch.uint8)
    with torch.inference_mode():
        assert set(load_release("selavpr-pp-hashing").eval()(images).unique().tolist()) == {-1.0, 1.0}
    alone = {key: value for key, value in tensors.items() if "hashing" not in key and not re.search("linear[34]", key)}
    torch.save(alone, checkpoints.parent / "alone.pth")
    with pytest.raises(UserError, match=r"alone\.pth.*missing"):
        load_release("selavpr-pp-hashing", weights=checkpoints.parent / "alone.pth")
