"""Files of released networks that hold more than one network's weights, or say how theirs is to be built."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vgbench.errors import UserError, about, in_short
from vgbench.models.weights import extract_state_dict, load_state_dict, read_checkpoint

_WPCA = re.compile(r"WPCA_(\d+)\.")
# A file names no other network, and no code: what it says is not typed by the user.
_QAA_BACKBONE = re.compile(r"dinov2_vit[sblg]14(_reg)?")
_MOST = 2**12
# What QAA's configuration says of its aggregation and this project's says too.
_QAA_OPTIONS = {"num_clusters": int, "cluster_dim": int, "num_queries": int, "feature_nheads": int, "score_nheads": int,
                "out_norm": bool}  # fmt: skip
# What else it may say, as every released network has it; others would compute something else.
_QAA_USUAL = {"attn_arch": "conv", "skip_connection": "none", "divide": 1, "self_attn": "both", "token_dim": 0,
              "score_norm": "none", "intra_norm": True, "self_attn_out_norm": True}  # fmt: skip
# The adapters of Lu's files in this project's words, what comes first first.
_SELAVPR = {r"\.adapter1\.": ".attn.adapter.", r"\.adapter2\.": ".mlp.adapter.", r"D_fc1\.": "down.", r"D_fc2\.": "up.",
            r"^LocalAdapt\.": "aggregation.local.", r"^aggregation\.1\.p$": "aggregation.gem.p"}  # fmt: skip
_SIDE = {r"D_fc1\.": "down.", r"D_fc2\.": "up.", r"\.branch1\.": ".one.", r"\.branch2\.": ".three.",
         r"\.branch3\.": ".five.", r"\.conv\.": ".0.", r"\.bn\.": ".1."}  # fmt: skip
_FLOATS = {r"^backbone\.adapters\.": "backbone.side.", r"^linear([12])\.": r"aggregation.linear\1.",
           r"^aggregation\.1\.p$": "aggregation.gem.p"}  # fmt: skip
_HASHES = {r"^backbone\.adapters_hashing\.": "backbone.side.", r"^linear3\.": "aggregation.linear1.",
           r"^linear4\.": "aggregation.linear2.", r"^aggregation_hashing\.1\.p$": "aggregation.gem.p"}  # fmt: skip
# Pair-VPR's files have what only its first stage of training needs, and positions that are computed here.
_PAIRVPR = {r"^encoder\.model\.": "backbone.", r"^(?!backbone\.)": "aggregation."}
_PAIRVPR_ELSE = ("mask_token", "prediction_head.weight", "prediction_head.bias", "dec_pos_embed", "dec_pos_embed_cls")

# R2Former's have two parameters that no score depends on.
_R2FORMER = {r"^backbone\.(head|head_dist)\.": r"aggregation.\1.", r"^backbone\.": "backbone.model.",
             r"^local_head\.": "aggregation.local_head.", r"^Reranker\.": "aggregation.reranker."}  # fmt: skip
_R2FORMER_ELSE = ("Reranker.decoder_pos_embed", "Reranker.ratio")


def load_r2former(network: nn.Module, path: Path) -> None:
    """Load R2Former, its global part and its re-ranker; raises UserError if a file is of another network."""
    with about(path):
        tensors = extract_state_dict(read_checkpoint(path))
        load_state_dict(network, _renamed(_without(tensors, _R2FORMER_ELSE), _R2FORMER))


def load_pairvpr(network: nn.Module, path: Path) -> None:
    """Load Pair-VPR, encoder and decoder; raises UserError if a file is of another network."""
    with about(path):
        tensors = extract_state_dict(read_checkpoint(path))
        load_state_dict(network, _renamed(_without(tensors, _PAIRVPR_ELSE), _PAIRVPR))


def _without(tensors: Mapping[str, Tensor], names: Container[str]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key not in names}


# EDTformer's branch, and CricaVPR's convolutions in each layer.
_LOPA = {r"^backbone\.adapters\.": "backbone.side.", r"D_fc1\.": "down.", r"D_fc2\.": "up."}
_CRICAVPR = {r"^backbone\.blocks\.(\d+)\.adapter\.": r"backbone.side.\1.", r"^aggregation\.1\.p$": "aggregation.gem.p",
             r"^encoder\.": "aggregation.encoder."}  # fmt: skip


def load_edtformer(network: nn.Module, path: Path) -> None:
    """Load EDTformer; raises UserError if a file is of another network."""
    with about(path):
        load_state_dict(network, _renamed(extract_state_dict(read_checkpoint(path)), _LOPA))


def load_cricavpr(network: nn.Module, path: Path) -> None:
    """Load CricaVPR; raises UserError if a file is of another network, or has none of its adapters."""
    with about(path):
        weights = _renamed(extract_state_dict(read_checkpoint(path)), _CRICAVPR | _SIDE)
        _check_adapters(network, weights, ".side.", "CricaVPR")
        load_state_dict(network, weights)


def load_selavpr(network: nn.Module, path: Path) -> None:
    """Load SelaVPR; raises UserError if a file is of another network, or has none of its adapters."""
    with about(path):
        weights = _renamed(extract_state_dict(read_checkpoint(path)), _SELAVPR)
        _check_adapters(network, weights, ".adapter.", "SelaVPR")
        load_state_dict(network, weights)


def _check_adapters(network: nn.Module, weights: Mapping[str, Tensor], part: str, expected: str) -> None:
    """Raise UserError for a file without adapters, which would do, were it of a network that is trained here."""
    missing = [key for key in network.state_dict() if part in key and key not in weights]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise UserError(f"state dict: of another network: {len(missing)} missing ({missing[0]}). Expected {expected}")


def load_selavpr_pp(network: nn.Module, path: Path) -> None:
    """Load SelaVPR++: the branch of codes for a network of `hashing`, else that of floats; a file may hold both.

    Raises:
        UserError: it is the file of another network, or has no such branch; the message names it.
    """
    hashing = bool(getattr(network.aggregation, "hashing", False))
    names, others = (_HASHES, _FLOATS) if hashing else (_FLOATS, _HASHES)
    with about(path):
        tensors = {
            key: value
            for key, value in extract_state_dict(read_checkpoint(path)).items()
            if not any(re.search(pattern, key) for pattern in others)
        }
        load_state_dict(network, _renamed(tensors, names | _SIDE))


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in tensors.items():
        ours = key
        for pattern, name in names.items():
            ours = re.sub(pattern, name, ours)
        renamed[ours] = value
    return renamed


def load_vlad_buff(network: nn.Module, path: Path) -> None:
    """Load VLAD-BuFF with its whitening of the network's dimensions; a file may hold several.

    Raises:
        UserError: it is the file of another network; the message names it.
    """
    dimensions = str(network.state_dict()["aggregation.1.weight"].shape[0])
    with about(path):
        weights = {}
        for key, value in extract_state_dict(read_checkpoint(path)).items():
            found = _WPCA.match(key)
            if found is None or found[1] == dimensions:
                weights[_WPCA.sub("WPCA.", key)] = value
        load_state_dict(network, weights)


def qaa_parts(path: Path) -> dict[str, Any]:
    """Return the options of `build_network` that a file of QAA asks for.

    Sizes are those of its tensors; what they do not show (attention heads, norms) is in the configuration beside it,
    `<the same name>.json` or `config.json`, as Hugging Face keeps it, or else as this project's defaults say.

    Raises:
        UserError: it is no such file, or its configuration asks for what this project does not have.
    """
    with about(path):
        tensors = {
            key.split("aggregator.")[-1]: value for key, value in extract_state_dict(read_checkpoint(path)).items()
        }
        parts = _configured(path) | _sizes(tensors)
    return parts


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    try:
        codebook, projection = tensors["queries_feature.queries"], tensors["score.conv.weight"]
        sizes = {
            "num_clusters": projection.shape[0],
            "num_queries": codebook.shape[1],
            "cluster_dim": codebook.shape[2],
        }
    except (KeyError, IndexError) as error:
        raise UserError("holds no QAA network. Expected the model.safetensors of xjh19972/QAA-...") from error
    return sizes


def _configured(path: Path) -> dict[str, Any]:
    places = [place for place in (path.with_suffix(".json"), path.with_name("config.json")) if place.is_file()]
    if not places:
        return {}
    try:
        said = json.loads(places[0].read_text("utf-8"))
        said = said.get("model_config_dict", said)
        head, trunk, backbone = said.get("agg_config", {}), said.get("backbone_config", {}), said["backbone_arch"]
        parts = {name: kind(head[name]) for name, kind in _QAA_OPTIONS.items() if name in head}
        parts |= {"backbone": str(backbone), "norm_layer": bool(trunk.get("norm_layer", False))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{places[0]}: is no configuration of QAA ({in_short(error)}). Expected its config.json"
        ) from error
    if not _QAA_BACKBONE.fullmatch(parts["backbone"]):
        raise UserError(f"{places[0]}: backbone {parts['backbone'][:60]!r}: not known. Expected a DINOv2")
    wrong = {name: parts[name] for name, kind in _QAA_OPTIONS.items() if kind is int and name in parts
             and not 1 <= parts[name] <= _MOST}  # fmt: skip
    if wrong:
        raise UserError(f"{places[0]}: says {wrong}. Expected numbers from 1 to {_MOST}")
    other = {name: head[name] for name, usual in _QAA_USUAL.items() if head.get(name, usual) != usual}
    if other:
        raise UserError(f"{places[0]}: asks for {other}, which is not there. Expected a released one")
    return parts
