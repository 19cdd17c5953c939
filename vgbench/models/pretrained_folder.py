"""A network in a folder as Hugging Face keeps one: `model.safetensors`, and `config.json`, which says what it is.

The configuration is that of a checkpoint, `network_config`, as plain words and numbers; whoever builds a network from
it checks it as a checkpoint's. Nothing in the folder is code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vgbench import __version__
from vgbench.errors import UserError, in_short
from vgbench.files import is_file, write_text, written_whole
from vgbench.models.base import Backbone
from vgbench.models.network import Network

MODEL, CONFIG = "model.safetensors", "config.json"
_LIBRARY = "vgbench"
_LARGEST = 2**20  # bytes of a configuration


def write_folder(network: Network, size: tuple[int, int], folder: Path) -> None:
    """Write a network and the size of its images, (height, width) in pixels; the folder is made where there is none.

    Raises:
        UserError: it cannot be written, or the network is its authors' code (`--method` of a HubRelease).
    """
    if any(isinstance(part, Backbone) and part.shared for part in network.modules()):
        raise UserError(
            f"{folder}: {network.name} is its authors' code, which such a folder cannot hold. Expected a network of "
            "this project"
        )
    said = {
        "library_name": _LIBRARY,
        "version": __version__,
        "network_config": network.config,
        "resize": list(size),
        "descriptors_dim": network.descriptors_dim,
    }
    # Copies: the format takes no two names of the same memory.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    with written_whole(folder / MODEL) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    write_text(folder / CONFIG, json.dumps(said, indent=2, default=str) + "\n")


def with_configuration(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what a checkpoint would hold, if a configuration of `write_folder` lies beside a file; else its tensors.

    Raises:
        UserError: the configuration cannot be read.
    """
    said = _configuration(path.with_name(CONFIG))
    if said.get("library_name") != _LIBRARY:
        return dict(tensors)
    options = {"resize": said["resize"]} if "resize" in said else {}
    return {"model_state_dict": dict(tensors), "network_config": said.get("network_config"), "options": options}


def _configuration(path: Path) -> dict[str, Any]:
    if not is_file(path):
        return {}
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: has more than a megabyte. Expected the configuration of a network")
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: is no configuration ({in_short(error)}). Expected one in JSON; fetch it again"
        ) from error
    return said if isinstance(said, dict) else {}
