"""Starting from another run's network: the same weights, trained on in another way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vgbench.data import DataOptions
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.from_options import check_same_network
from vgbench.models.hashing import attach_hashing
from vgbench.models.network import HASH_BITS
from vgbench.models.network_file import NetworkFile, read_network_file
from vgbench.models.options import NetworkOptions, stored_options
from vgbench.options import Mark, marked
from vgbench.stored import options_of_file, own_names

# What a new run may change about a network that is made of parts: which of them it trains.
FREEZING = marked(Mark.FREEZES, NetworkOptions)


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
    file = _read(path, own_names(given))
    config = file.config
    free = (*(FREEZING if _of_parts(config) else ()), *(() if config.get(HASH_BITS) else (HASH_BITS,)))
    same = {name: value for name, value in given.items() if name not in free}
    check_same_network(path, config, same, "--start_from")
    options = options_of_file(path, file.content.get("options", {}), [DataOptions], given)
    length = {"seq_length": config["seq_length"]} if config.get("seq_aggregation") else {}
    return stored_options(config) | {name: value for name, value in options.items() if name == "resize"} | length


def start_network(path: Path, options: NetworkOptions, own: Collection[str] = ()) -> Network:
    """Return the network of a checkpoint, with its weights, of which the options say what is trained.

    Args:
        own: code outside this project that the user typed in this call.

    Raises:
        UserError: it cannot be read or does not say which network it holds; there is no such part to train.
    """
    file = _read(path, own)
    chosen = {name: getattr(options, name) for name in FREEZING if getattr(options, name) is not None}
    network = file.network(**(chosen if _of_parts(file.config) else {}))
    if options.hash_bits is not None:
        attach_hashing(network, options.hash_bits)
    return network


def _of_parts(config: Mapping[str, Any]) -> bool:
    return "method" not in config and "members" not in config


def _read(path: Path, own: Collection[str]) -> NetworkFile:
    return read_network_file(
        path,
        own,
        name=f"--start_from {path}",
        otherwise="for weights of others use --resume, with --backbone and --aggregation",
    )
