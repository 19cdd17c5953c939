"""The network of a checkpoint: built again from its configuration, without fetching what it once started from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vgbench.models.build import build_network
from vgbench.models.ensemble import build_ensemble
from vgbench.models.geowarp import attach
from vgbench.models.network import Network
from vgbench.models.releases import load_release
from vgbench.models.weights import load_state_dict
from vgbench.models.whitened import NAME as WHITENED
from vgbench.models.whitened import build_whitened


def rebuild_network(config: Mapping[str, Any], state_dict: Mapping[str, Any] | None = None) -> Network:
    """Build the network of a checkpoint without fetching the weights it once started from, and load its own.

    Raises:
        UserError: `config` is not one of this version's, or `state_dict` is of another network.
    """
    if "members" in config:
        network = _rebuild_composite(config)
    elif "method" in config:
        network = load_release(config["method"], trained=False)
    else:
        network = build_network(**{**_without(config, "geowarp"), "pretrain": "none"})
    network.config = _without(config, "geowarp")
    if config.get("geowarp"):
        attach(network)
    if state_dict is not None:
        load_state_dict(network, state_dict)
    return network


def _rebuild_composite(config: Mapping[str, Any]) -> Network:
    return rebuild_whitened(config) if config.get("backbone") == WHITENED else rebuild_ensemble(config)


def _without(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != name}


def rebuild_ensemble(config: Mapping[str, Any]) -> Network:
    """Return the network of an ensemble's configuration, without the weights of any member."""
    members = [rebuild_network(member) for member in config["members"]]
    return build_ensemble(members, config["aggregation"], config["weights"])


def rebuild_whitened(config: Mapping[str, Any]) -> Network:
    """Return the network of a configuration, without its weights."""
    return build_whitened(rebuild_network(config["members"][0]), config["dim"])
