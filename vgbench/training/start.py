"""Starting from another run's network: the same weights, trained on in another way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgbench.errors import UserError
from vgbench.models import Network, rebuild_network
from vgbench.models.options import check_same_network, network_option_names
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
    check_same_network(path, config, given, "--start_from")
    options = content.get("options", {})
    size = {"resize": options["resize"]} if "resize" in options else {}
    return {name: config[name] for name in network_option_names() if name in config} | size


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
