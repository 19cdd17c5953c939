"""Which network a run is about: by its options, by a checkpoint, or by a checkpoint with options beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgbench.errors import UserError, about
from vgbench.models import Network, load_state_dict, network_from_options, rebuild_network
from vgbench.models.from_options import check_same_network, refuse_weights
from vgbench.models.options import stored_options
from vgbench.models.releases import release_of
from vgbench.models.sequences.network import OPTIONS as OF_SEQUENCES
from vgbench.models.sequences.network import SequenceNetwork, with_sequences
from vgbench.models.stored_config import check_config
from vgbench.models.weights import read_checkpoint
from vgbench.runs.settings import EvalSettings, Settings, TrainSettings, groups_of
from vgbench.stored import options_of_file, own_names
from vgbench.training import is_resumable
from vgbench.training.checkpoint import TAKEN_OVER
from vgbench.training.start import start_network


def method_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The image size that a released network wants, as defaults; nothing where none was asked for."""
    method = given.get("method")
    return {} if method is None else {"resize": release_of(method).size}


def options_to_resume(given: Mapping[str, Any]) -> dict[str, Any]:
    """The interrupted run's options, so that `--resume` alone goes on with it; none for weights from elsewhere.

    Args:
        given: what the user set, by flat name.

    Raises:
        UserError: the checkpoint cannot be read, or its options are not what a user could set.
    """
    resume = given.get("resume")
    if resume is None:
        return {}
    content = read_checkpoint(resume)
    if not is_resumable(content):
        return {}
    return options_of_file(resume, content.get("options"), groups_of(TrainSettings).values(), given)


def network_to_train(settings: TrainSettings) -> Network:
    """The network to train; a resumed run's is not fetched again, since the checkpoint replaces every weight."""
    if settings.training.start_from is not None:
        path = settings.run.resume or settings.training.start_from
        start = start_network(path, settings.network, settings.run.own_code or ())
        return _of_sequences(start, settings)
    length = settings.rerank.seq_length
    if settings.run.resume is None:
        return network_from_options(settings.network, settings.data.resize, length)
    fresh = dataclasses.replace(settings.network, pretrain="none", weights=None)
    network = network_from_options(fresh, settings.data.resize, length)
    network.config["pretrain"] = settings.network.pretrain
    return network


def options_to_test(checkpoint: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an evaluation takes over from a checkpoint of this project, {} of another.

    Args:
        given: what the user set, by flat name; its `resume` is the checkpoint's path.

    Raises:
        UserError: it holds what no checkpoint of this project holds, or names code that the user did not type.
    """
    config = checkpoint.get("network_config")
    if not isinstance(config, Mapping):
        return {}
    path = given["resume"]
    with about(path):
        check_config(config, own_names(given))
    stored = options_of_file(path, checkpoint.get("options", {}), groups_of(EvalSettings).values(), given)
    return {name: stored[name] for name in TAKEN_OVER if name in stored} | stored_options(config)


def network_to_test(
    checkpoint: Mapping[str, Any], resume: Path | None, settings: EvalSettings, given: Mapping[str, Any] | None = None
) -> Network:
    """The checkpoint's network with its weights; by the flags where a checkpoint of others does not say what it is.

    Args:
        given: what the user set, where nothing has compared it with the checkpoint yet.

    Raises:
        UserError: the checkpoint is of another network, or weights cannot be had.
    """
    options, size, length = settings.network, settings.data.resize, settings.rerank.seq_length
    if resume is None:
        return network_from_options(options, size, length)
    config = checkpoint.get("network_config")
    if isinstance(config, Mapping):
        check_same_network(resume, config, given or {}, "--resume")
        if config.get("seq_aggregation"):  # whose weights are not of one length
            config = {**config, "seq_length": length}
        with about(resume):
            return _of_sequences(rebuild_network(config, checkpoint, settings.run.own_code or ()), settings)
    refuse_weights(options.weights, "--resume")
    network = network_from_options(dataclasses.replace(options, pretrain="none"), size, length)
    try:
        load_state_dict(network, checkpoint)
    except UserError as error:
        raise UserError(
            f"{resume}: {error} (it does not say which network it is: give --backbone and --aggregation)"
        ) from error
    return network


def _of_sequences(network: Network, settings: Settings) -> Network:
    """A checkpoint's network of images with the aggregation over frames that is asked for; else the network itself."""
    options = settings.network
    if options.seq_aggregation is None or isinstance(network, SequenceNetwork):
        return network
    own = {name: getattr(options, name) for name in OF_SEQUENCES}
    return with_sequences(network, seq_length=settings.rerank.seq_length, **own)
