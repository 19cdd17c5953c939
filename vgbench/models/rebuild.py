"""The network of a checkpoint: built again from its configuration, without fetching what it once started from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vgbench.errors import UserError, in_short
from vgbench.models.build import build_network
from vgbench.models.ensemble import build_ensemble
from vgbench.models.geowarp import attach
from vgbench.models.hashing import attach_hashing
from vgbench.models.network import HASH_BITS, Network
from vgbench.models.releases import load_release
from vgbench.models.sequences.network import sequence_options, with_sequences, without_sequences
from vgbench.models.stored_config import check_config
from vgbench.models.weights import load_state_dict
from vgbench.models.whitened import NAME as WHITENED
from vgbench.models.whitened import build_whitened


def rebuild_network(
    config: Mapping[str, Any], state_dict: Mapping[str, Any] | None = None, own: Collection[str] = ()
) -> Network:
    """Build the network of a checkpoint without fetching the weights it once started from, and load its own.

    A configuration comes from a file, which anybody may have written: it is checked before anything is built.

    Args:
        own: code outside this project, package.module:Class, that the configuration may name: what the user typed.

    Raises:
        UserError: `config` is not one of this version's or names other code, or `state_dict` is of another network.
    """
    check_config(config, own)
    try:
        network = _rebuilt(config, own)
    except UserError:
        raise
    except Exception as error:  # what a file asks for can fail in any way
        raise UserError(
            f"network_config: no network can be built from it ({in_short(error)}). Expected what train.py or combine "
            "writes"
        ) from error
    if state_dict is not None:
        load_state_dict(network, state_dict)
    return network


def _rebuilt(config: Mapping[str, Any], own: Collection[str]) -> Network:
    if config.get(HASH_BITS):
        network = _rebuilt(_without(config, HASH_BITS), own)
        attach_hashing(network, config[HASH_BITS])
        return network
    if of_sequences := sequence_options(config):
        return with_sequences(_rebuilt(without_sequences(config), own), **of_sequences)
    if "members" in config:
        network = _rebuild_composite(config, own)
    elif "method" in config:
        network = load_release(config["method"], trained=False)
    else:
        # Checkpoints from before there was a choice normalised every token.
        options = {"l2_over": "channels", **_without(config, "geowarp"), "pretrain": "none"}
        network = build_network(**options)
    network.config = _without(config, "geowarp")
    if config.get("geowarp"):
        attach(network)
    return network


def _rebuild_composite(config: Mapping[str, Any], own: Collection[str]) -> Network:
    return rebuild_whitened(config, own) if config.get("backbone") == WHITENED else rebuild_ensemble(config, own)


def _without(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != name}


def rebuild_ensemble(config: Mapping[str, Any], own: Collection[str] = ()) -> Network:
    """Return the network of an ensemble's configuration, without the weights of any member; `own` as of theirs."""
    members = [rebuild_network(member, own=own) for member in config["members"]]
    return build_ensemble(members, config["aggregation"], config["weights"])


def rebuild_whitened(config: Mapping[str, Any], own: Collection[str] = ()) -> Network:
    """Return the network of a configuration, without its weights; `own` as of its member's."""
    return build_whitened(rebuild_network(config["members"][0], own=own), config["dim"])
