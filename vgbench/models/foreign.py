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
_PARTS = {"aggregator.": "aggregation.", "pool.": "aggregation.", "encoder.": "backbone.", "desc.": "backbone."}
# How a backbone is called inside its own wrapper.
_WRAPPERS = ("model.", "net.", "dino.", "backbone.", "vit.")
# CosPlace's and EigenPlaces' heads are layers in a row.
_COSPLACE = {"aggregation.1.p": "aggregation.gem.p", "aggregation.3.": "aggregation.fc."}
# torchvision's ResNet by name, this project's (and the Deep VG benchmark's) by place.
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
    return {_own_key(key, known): value for key, value in tensors.items()}


def _own_key(key: str, known: set[str]) -> str:
    if key in known:
        return key
    bare = key
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
