"""Starting from another run's network: the same weights, trained on in another way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgbench.errors import UserError
from vgbench.models import Network, NetworkOptions, rebuild_network
from vgbench.models.weights import read_checkpoint


def start_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network options and the image size of the checkpoint that `start_from` names, {} where none is given.

    Args:
        given: what the user set, by flat name.

    Raises:
        UserError: the checkpoint cannot be read or does not say which network it holds; an option contradicts it;
            there is a run to resume too.
    """
    path = given.get("start_from")
    if path is None:
        return {}
    if given.get("resume") is not None:
        raise UserError(
            f"--start_from {path}: there is --resume too. Expected one of them; a run that is resumed knows its start"
        )
    content = read_checkpoint(path)
    config = _config(path, content)
    names = [field.name for field in dataclasses.fields(NetworkOptions)]
    for name in names:
        if name in given and name in config and given[name] != config[name]:
            raise UserError(
                f"{path}: holds a network with --{name} {config[name]}, not {given[name]}. "
                f"Expected no network options beside --start_from; leave --{name} out"
            )
    options = content.get("options", {})
    size = {"resize": options["resize"]} if "resize" in options else {}
    return {name: config[name] for name in names if name in config} | size


def start_network(path: Path) -> Network:
    """Return the network of a checkpoint, with its weights; raises UserError."""
    content = read_checkpoint(path)
    return rebuild_network(_config(path, content), content)


def _config(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any]:
    config = content.get("network_config")
    if not isinstance(config, Mapping):
        raise UserError(
            f"--start_from {path}: does not say which network it holds. Expected a checkpoint of this project; for "
            "weights of others use --resume, with --backbone and --aggregation"
        )
    return config
