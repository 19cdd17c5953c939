"""Checkpoints that other projects wrote: read without running their code, keys turned into this project's."""

from __future__ import annotations

import io
import pickle
import types
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What tensors are made of in a pickle; everything else that a file names is replaced by something inert.
_TENSOR_PARTS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}

# How a checkpoint's network is called inside the object that trained it.
_OWNERS = ("module.", "_orig_mod.", "model.", "network.", "net.")
_PARTS = {"aggregator.": "aggregation.", "pool.": "aggregation.", "encoder.": "backbone.", "desc.": "backbone.",
          "WPCA.0.": "aggregation.1."}  # fmt: skip
# How a backbone is called inside its own wrapper.
_WRAPPERS = ("model.", "net.", "dino.", "dino_model.", "backbone.", "vit.")
# CosPlace's and EigenPlaces' heads are layers in a row.
_COSPLACE = {"aggregation.1.p": "aggregation.gem.p", "aggregation.3.": "aggregation.fc."}
# The vision transformer of Hugging Face (ViTModel), which the Deep VG benchmark trains, in the words of torchvision's,
# as this project holds it; what comes first is replaced first.
_VIT_MARK = "embeddings.patch_embeddings.projection.weight"
_VIT = {
    "embeddings.cls_token": "class_embedding",
    "embeddings.position_embeddings": "pos_embedding",
    "embeddings.patch_embeddings.projection.": "conv_proj.",
    "encoder.layer.": "layers.",
    ".layernorm_before.": ".ln_1.",
    ".layernorm_after.": ".ln_2.",
    ".attention.attention.query.": ".self_attention.in_proj_",  # with the keys and values beside it
    ".attention.output.dense.": ".self_attention.out_proj.",
    ".intermediate.dense.": ".mlp.0.",
    ".output.dense.": ".mlp.3.",
    "layernorm.": "norm.",
}
_VIT_LEFT_OUT = ("pooler.", ".attention.attention.key.", ".attention.attention.value.")
# torchvision's ResNet by name, this project's (and the Deep VG benchmark's) by position.
RESNET_PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def read_inert(path: Path) -> Any:
    """Read what `torch.save` wrote, objects of unknown classes (hyper-parameters, callbacks) replaced by inert ones.

    Nothing that the file names is imported or called but what rebuilds tensors.

    Raises:
        pickle.UnpicklingError, RuntimeError, EOFError: it is no such file, or damaged.
    """
    reader = types.SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="inert_pickle")
    return torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)


def own_keys(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Return the tensors under the keys of a network of this project, where a known style of another leads to them.

    Args:
        tensors: a state dict of a GSV-Cities, OpenVPRLab, SALAD, BoQ or Deep VG checkpoint, or one of this project.
        wanted: the keys of the network; what leads to none of them keeps its name, without its owner's prefix.
    """
    known = set(wanted)
    if not any(key.endswith(_VIT_MARK) for key in known):
        tensors = _plain_vit(tensors)
    return {_own_key(key, known): value for key, value in tensors.items()}


def _plain_vit(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return Hugging Face's vision transformer as torchvision's; other tensors as they are.

    Its queries, keys and values become one matrix; its pooler, which no descriptor uses, is left out. The published
    network adds 1e-12 to a LayerNorm's variance and torchvision's 1e-6: of variances near 1 that is within rounding.
    """
    prefix = next((key.removesuffix(_VIT_MARK) for key in tensors if key.endswith(_VIT_MARK)), None)
    if prefix is None:
        return tensors
    others = {key: value for key, value in tensors.items() if not key.startswith(prefix)}
    ours = prefix.removesuffix("vit_model.")
    return others | {
        ours + _vit_name(key.removeprefix(prefix)): _with_keys_and_values(key, tensors)
        for key in tensors
        if key.startswith(prefix) and not any(part in key for part in _VIT_LEFT_OUT)
    }


def _vit_name(key: str) -> str:
    for theirs, ours in _VIT.items():
        key = key.replace(theirs, ours)
    return key


def _with_keys_and_values(key: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the tensor of `key`; of queries [C,...], those of the keys and the values below it [3C,...]."""
    if ".attention.query." not in key:
        return tensors[key]
    parts = [key.replace(".attention.query.", f".attention.{name}.") for name in ("query", "key", "value")]
    return torch.cat([tensors[part] for part in parts if part in tensors])


def _own_key(key: str, known: set[str]) -> str:
    if key in known:
        return key
    bare = key.replace(".module.", ".")  # parts of it were on several GPUs
    while bare not in known and bare.startswith(_OWNERS):
        bare = bare.split(".", 1)[1]
    return next((candidate for candidate in _spellings(bare) if candidate in known), bare)


def _spellings(key: str) -> list[str]:
    """Return the keys that another project's `key` may mean here."""
    found = [key]
    for prefix, part in _PARTS.items():
        if key.startswith(prefix):
            found.append(part + key.removeprefix(prefix))
    if key.startswith("backbone."):
        inner = key.removeprefix("backbone.")
        found += ["backbone." + inner.removeprefix(wrapper) for wrapper in _WRAPPERS if inner.startswith(wrapper)]
    # An aggregation with something behind it, a normalisation (GeM's in GSV-Cities and OpenVPRLab) or a projection.
    found += [name.replace("aggregation.", "aggregation.0.", 1) for name in found if name.startswith("aggregation.")]
    found += [f"{part}.{key}" for part in ("aggregation", "backbone")]  # what others keep beside both
    found += [
        name.replace(theirs, ours, 1) for name in found for theirs, ours in _COSPLACE.items() if name.startswith(theirs)
    ]
    return [spelling for name in found for spelling in (name, _resnet_key(name))]


def _resnet_key(key: str) -> str:
    parts = key.split(".")
    if len(parts) > 2 and parts[0] == "backbone" and parts[1] in RESNET_PLACES:
        parts[1] = RESNET_PLACES[parts[1]]
    return ".".join(parts)


class _Inert:
    """Stands for an object of a class that is not to be loaded: takes any arguments, keeps nothing."""

    def __new__(cls, *arguments: object, **options: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: object, **options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __call__(self, *arguments: object, **options: object) -> _Inert:
        return self

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Take a list's item, as unpickling a subclass of list does."""

    def extend(self, items: object) -> None:
        """Take a list's items."""

    def add(self, item: object) -> None:
        """Take a set's item."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module == "torch" and name.endswith("Storage"):
            return getattr(torch, name)
        return _TENSOR_PARTS.get((module, name), _Inert)


def _load(file: io.BufferedIOBase, **options: Any) -> Any:
    return _Unpickler(file, **options).load()
