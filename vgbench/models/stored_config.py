"""The configuration of a network that a file brings, checked before anything is built from it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping
from typing import Any

from vgbench.errors import UserError
from vgbench.flags import build_options
from vgbench.models.options import NetworkOptions
from vgbench.models.releases import release_of
from vgbench.models.sequences.network import sequence_options, without_sequences
from vgbench.models.sequences.options import SequenceNetworkOptions
from vgbench.options import CHOICES
from vgbench.stored import check_name, checked_value

# A file of a few kilobytes must not ask for more than a machine has: what a number of the configuration says at most.
MOST = 2**20
MOST_LAYERS = 256
MOST_MEMBERS = 64
DEEPEST = 8
MOST_BITS = 2**16
_OF_LAYERS = ("num_non_local", "num_layers", "mix_depth", "seqnet_width")
_OF_CODE = ("backbone", "aggregation", "seq_aggregation")
_EXPECTED = "Expected the network_config that train.py or combine writes"


def check_config(config: Any, own: Collection[str] = (), depth: int = 0) -> None:
    """Refuse a network's configuration that no network of this project writes.

    Args:
        config: what a checkpoint holds as `network_config`.
        own: names of code of the user's own, package.module:Class, that were typed in this call.
        depth: of networks in networks, around this one.

    Raises:
        UserError: it names code that was not typed, a part that is not known, or a value of another type or range.
    """
    if not isinstance(config, Mapping) or not all(isinstance(name, str) for name in config):
        raise UserError(f"network_config: is no mapping of names to values. {_EXPECTED}")
    if not isinstance(config.get("geowarp", False), bool):
        raise UserError(f"network_config: geowarp is a {type(config['geowarp']).__name__}. {_EXPECTED}")
    bits = config.get("hash_bits")
    if bits is not None and not 1 <= checked_value("hash_bits", bits, int) <= MOST_BITS:
        raise UserError(f"network_config: hash_bits {bits} is out of range. {_EXPECTED}")
    if of_sequences := sequence_options(config):
        _check_sequences(of_sequences, own)
        config = without_sequences(config)
    if "members" in config:
        _check_members(config, own, depth)
    elif "method" in config:
        _check_method(config["method"])
    else:
        _check_parts(config, own)


def own_code_of(config: Mapping[str, Any]) -> list[str]:
    """Return the names of code outside the tables that a checked configuration has, members' included."""
    found = [str(config[name]) for name in _OF_CODE if ":" in str(config.get(name, ""))]
    found = [name for name in found if not name.startswith("timm:")]
    return list(dict.fromkeys([*found, *(name for one in config.get("members", ()) for name in own_code_of(one))]))


def _check_sequences(config: Mapping[str, Any], own: Collection[str]) -> None:
    """What is said of an aggregation over frames."""
    hints = typing.get_type_hints(SequenceNetworkOptions)
    length = checked_value("seq_length", config.get("seq_length"), int)
    if not 1 <= length <= MOST_LAYERS:
        raise UserError(f"network_config: seq_length {length} is out of range. {_EXPECTED}")
    declared = {
        name: checked_value(name, value, hints[name], own)
        for name, value in config.items()
        if name in hints and value is not None
    }
    for name, value in declared.items():
        _check_plain(name, value, own)
    build_options(SequenceNetworkOptions, declared)


def _check_members(config: Mapping[str, Any], own: Collection[str], depth: int) -> None:
    members = config["members"]
    if not isinstance(members, (list, tuple)) or not 1 <= len(members) <= MOST_MEMBERS or depth >= DEEPEST:
        raise UserError(f"network_config: its members are no list of 1 to {MOST_MEMBERS} networks. {_EXPECTED}")
    for name, hint in (("backbone", str), ("aggregation", str), ("dim", int)):
        if name in config:
            checked_value(name, config[name], hint)
    if not 1 <= config.get("dim", 1) <= MOST:
        raise UserError(f"network_config: dim {config['dim']} is out of range. {_EXPECTED}")
    needed = ("dim",) if config.get("backbone") == "whitened" else ("aggregation", "weights")
    missing = [name for name in needed if name not in config]
    if missing:
        raise UserError(f"network_config: has no {missing[0]}. {_EXPECTED}")
    if "weights" in config:
        checked_value("weights", config["weights"], tuple[float, ...])
    for member in members:
        check_config(member, own, depth + 1)


def _check_method(method: Any) -> None:
    checked_value("method", method, str)
    release_of(method)


def _check_parts(config: Mapping[str, Any], own: Collection[str]) -> None:
    hints = typing.get_type_hints(NetworkOptions)
    fields = {field.name: field for field in dataclasses.fields(NetworkOptions)}
    declared = {}
    for name, value in config.items():
        if name in ("geowarp", "resize"):
            continue
        if name in fields and value is not None:
            declared[name] = checked_value(name, value, hints[name], own, fields[name].metadata[CHOICES])
        _check_plain(name, value, own)
    build_options(NetworkOptions, declared)


def _check_plain(name: str, value: Any, own: Collection[str]) -> None:
    """Whatever else a part of a network is told: a word, a number, or a few of them."""
    for one in value if isinstance(value, (list, tuple)) and len(value) <= MOST_MEMBERS else (value,):
        if one is not None and not isinstance(one, (str, int, float)):
            raise UserError(f"network_config: {name} is a {type(one).__name__}. {_EXPECTED}")
        if isinstance(one, str):
            check_name(name, one, own)
        elif one is not None and not abs(one) <= (MOST_LAYERS if name in _OF_LAYERS else MOST):
            raise UserError(f"network_config: {name} is out of range. {_EXPECTED}")
