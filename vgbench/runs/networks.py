"""Which network a run is about: by its options, by a checkpoint, or by a checkpoint with options beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgbench.errors import UserError
from vgbench.models import Network, load_state_dict, network_from_options, rebuild_network
from vgbench.models.options import check_same_network, stored_options
from vgbench.models.releases import release_of
from vgbench.models.weights import read_checkpoint
from vgbench.runs.settings import EvalSettings, TrainSettings
from vgbench.training import is_resumable
from vgbench.training.checkpoint import TAKEN_OVER
from vgbench.training.start import start_network


def method_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The image size that a released network wants, as defaults; nothing where none was asked for."""
    method = given.get("method")
    return {} if method is None else {"resize": release_of(method).size}


def options_to_resume(resume: Path | None) -> dict[str, Any]:
    """The interrupted run's options, so that `--resume` alone goes on with it; none for weights from elsewhere."""
    if resume is None:
        return {}
    content = read_checkpoint(resume)
    if not is_resumable(content):
        return {}
    return {name: value for name, value in content["options"].items() if name not in ("resume", "run_dir", "dry_run")}


def network_to_train(settings: TrainSettings) -> Network:
    """The network to train; a resumed run's is not fetched again, since the checkpoint replaces every weight."""
    if settings.training.start_from is not None:
        return start_network(settings.run.resume or settings.training.start_from, settings.network)
    if settings.run.resume is None:
        return network_from_options(settings.network, settings.data.resize)
    fresh = dataclasses.replace(settings.network, pretrain="none")
    network = network_from_options(fresh, settings.data.resize)
    network.config["pretrain"] = settings.network.pretrain
    return network


def options_to_test(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an evaluation takes over from a checkpoint of this project, {} of another."""
    config = checkpoint.get("network_config")
    if not isinstance(config, Mapping):
        return {}
    stored = checkpoint.get("options", {})
    return {name: stored[name] for name in TAKEN_OVER if name in stored} | stored_options(config)


def network_to_test(
    checkpoint: Mapping[str, Any], resume: Path | None, settings: EvalSettings, given: Mapping[str, Any] | None = None
) -> Network:
    """The checkpoint's network with its weights; by the flags where a checkpoint of others does not say what it is.

    Args:
        given: what the user set, where nothing has compared it with the checkpoint yet.
    """
    options, size = settings.network, settings.data.resize
    if resume is None:
        return network_from_options(options, size)
    if isinstance(checkpoint.get("network_config"), Mapping):
        check_same_network(resume, checkpoint["network_config"], given or {}, "--resume")
        return rebuild_network(checkpoint["network_config"], checkpoint)
    network = network_from_options(dataclasses.replace(options, pretrain="none"), size)
    try:
        load_state_dict(network, checkpoint)
    except UserError as error:
        raise UserError(
            f"{resume}: {error} (it does not say which network it is: give --backbone and --aggregation)"
        ) from error
    return network
