"""Test a network on a dataset: descriptors, exact search, recall within 25 m, a report to look at.

python3 eval.py --resume=logs/default/<run>/best_model.pth --dataset_name=tokyo247
python3 eval.py --resume=... --dataset_name=svox --queries_folder=queries_night --threshold 5 10 25 100
python3 eval.py --backbone=efficientnet_lite0 --aggregation=gem --dataset_name=pitts30k    # untrained
python3 eval.py --resume=... --queries_folder=~/Pictures/holiday --no_labels    # where were these taken?
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import commons
import parser
from vgbench import parallel
from vgbench.data import Split, dataset_root
from vgbench.data.photos import read_photos_split
from vgbench.data.splits import read_checked_split
from vgbench.errors import UserError
from vgbench.models import Network, NetworkOptions, load_state_dict, network_from_options, rebuild_network
from vgbench.models.weights import read_checkpoint
from vgbench.report.gallery import spread
from vgbench.retrieval import calibrated
from vgbench.retrieval.findings import Calibrated
from vgbench.runtime import Runtime, resolve_runtime

LOG = logging.getLogger("vgbench")

# What an evaluation takes over from the run that made the checkpoint, unless it is told otherwise.
TAKEN_OVER = ("dataset_name", "resize", "val_positive_dist_threshold")


def main() -> None:
    commons.log_to_console()
    given = parser.read_command_line(parser.EvalSettings, __doc__ or "")
    resume: Path | None = given.get("resume")
    checkpoint = read_checkpoint(resume) if resume else {}
    stored = checkpoint.get("options", {}) if isinstance(checkpoint.get("network_config"), Mapping) else {}
    taken_over = {name: stored[name] for name in TAKEN_OVER if name in stored}
    settings = parser.resolve(parser.EvalSettings, given, taken_over | commons.method_defaults(given))
    runtime = resolve_runtime(settings.runtime)
    parallel.start(runtime.device)
    split = read_queries(settings)
    commons.seed(settings.run.seed)
    network = network_of(checkpoint, resume, settings, given)
    runtime.place(network)

    folder = commons.open_run_folder(settings.run)
    options = parser.flat(settings) | {name: network.config.get(name) for name in network_option_names()}
    commons.write_config(folder, options)
    LOG.info("run folder: %s", folder)
    LOG.info("machine: %s", commons.describe_machine(runtime))
    LOG.info("network: %s", commons.describe_network(network, settings.data.resize))
    if resume is None and settings.network.method is None:
        LOG.info("no --resume: the network is tested as --pretrain %s left it", settings.network.pretrain)
        table = commons.database_for_clusters(dataset_root(settings.data), split, settings.data)
        commons.initialise_clusters(network, table, settings.data, settings.run.seed, runtime)
    descriptors = descriptors_folder(settings, folder)
    confidence = learned_confidence(network, settings, runtime, descriptors)
    commons.test(network, split, settings, options, runtime, folder, descriptors, confidence)


def read_queries(settings: parser.EvalSettings) -> Split:
    """The test split, or its database with somebody's own photographs as queries."""
    root = dataset_root(settings.data)
    if settings.photos.no_labels:
        return read_photos_split(settings.data, root)
    return read_checked_split(settings.data, root, "test", queries_folder=settings.data.queries_folder)


def learned_confidence(
    network: Network, settings: parser.EvalSettings, runtime: Runtime, descriptors: Path
) -> Calibrated | None:
    """What training learned on val of the confidence of a match, where it is of the same kind of test.

    For photographs without coordinates it is else learned on the dataset's own test queries.
    """
    pipeline = commons.pipeline_of(network, settings, runtime)
    resume, photos = settings.run.resume, settings.photos
    kept = None if resume is None else calibrated.load(resume.parent / calibrated.FILE, pipeline)
    if not photos.no_labels:
        return kept if settings.data.queries_folder == "queries" else None
    if kept is not None or photos.confidence_queries == 0:
        return kept
    data = dataclasses.replace(settings.data, queries_folder="queries", on_bad_image="skip")
    try:
        labelled = read_checked_split(data, dataset_root(data), "test")
    except UserError as error:
        LOG.warning("no confidence: there are no test queries to learn it from (%s)", error)
        return None
    some = labelled.queries.select(spread(len(labelled.queries), photos.confidence_queries))
    return calibrated.learn(
        pipeline, dataclasses.replace(labelled, queries=some), descriptors, "the dataset's test queries"
    )


def network_option_names() -> list[str]:
    return [field.name for field in dataclasses.fields(NetworkOptions)]


def network_of(
    checkpoint: Mapping[str, Any], resume: Path | None, settings: parser.EvalSettings, given: Mapping[str, Any]
) -> Network:
    """The checkpoint's network with its weights; by the flags where a checkpoint of others does not say what it is."""
    options, size = settings.network, settings.data.resize
    if resume is None:
        return network_from_options(options, size)
    if isinstance(checkpoint.get("network_config"), Mapping):
        config = checkpoint["network_config"]
        for name in network_option_names():
            if name in given and name in config and given[name] != config[name]:
                raise UserError(
                    f"{resume}: holds a network with --{name} {config[name]}, not {given[name]}. "
                    f"Expected no network options beside --resume; leave --{name} out"
                )
        return rebuild_network(config, checkpoint)
    network = network_from_options(dataclasses.replace(options, pretrain="none"), size)
    try:
        load_state_dict(network, checkpoint)
    except UserError as error:
        raise UserError(
            f"{resume}: {error} (it does not say which network it is: give --backbone and --aggregation)"
        ) from error
    return network


def descriptors_folder(settings: parser.EvalSettings, folder: Path) -> Path:
    """A checkpoint's descriptors are kept beside it, where one can write, so that its next evaluation finds them."""
    resume = settings.run.resume
    beside = resume is not None and os.access(resume.parent, os.W_OK)
    return (resume.parent if resume is not None and beside else folder) / "descriptors"


if __name__ == "__main__":
    commons.run_door(main)
