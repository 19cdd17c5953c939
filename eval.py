"""Test a network on a dataset: descriptors, exact search, recall within 25 m, a report to look at.

python3 eval.py --resume=logs/default/<run>/best_model.pth --dataset_name=tokyo247
python3 eval.py --resume=... --dataset_name=svox --queries_folder=queries_night --threshold 5 10 25 100
python3 eval.py --backbone=efficientnet_lite0 --aggregation=gem --dataset_name=pitts30k    # untrained
python3 eval.py --resume=... --queries_folder=~/Pictures/holiday --no_labels    # where were these taken?
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import commons
import parser
from vgbench import parallel
from vgbench.data import Split, dataset_root
from vgbench.data.photos import read_photos_split
from vgbench.data.splits import read_checked_split
from vgbench.models.options import network_option_names
from vgbench.models.weights import read_checkpoint
from vgbench.runs.clusters import database_for_clusters, initialise_clusters
from vgbench.runs.confidence import kept_or_learned
from vgbench.runs.facts import machine_line, network_line
from vgbench.runs.networks import method_defaults, network_to_test, options_to_test
from vgbench.runs.testing import test_and_report
from vgbench.runtime import resolve_runtime

LOG = logging.getLogger("vgbench")


def main() -> None:
    commons.log_to_console()
    given = parser.read_command_line(parser.EvalSettings, __doc__ or "")
    resume: Path | None = given.get("resume")
    checkpoint = read_checkpoint(resume) if resume else {}
    settings = parser.resolve(parser.EvalSettings, given, options_to_test(checkpoint) | method_defaults(given))
    runtime = resolve_runtime(settings.runtime)
    parallel.start(runtime.device)
    split = read_queries(settings)
    commons.seed(settings.run.seed)
    network = network_to_test(checkpoint, resume, settings, given)
    runtime.prepare(network)

    folder = commons.open_run_folder(settings.run)
    options = parser.flat(settings) | {name: network.config.get(name) for name in network_option_names()}
    commons.write_config(folder, options)
    LOG.info("run folder: %s", folder)
    LOG.info("machine: %s", machine_line(runtime))
    LOG.info("network: %s", network_line(network, settings.data.resize))
    if resume is None and settings.network.method is None:
        LOG.info("no --resume: the network is tested as --pretrain %s left it", settings.network.pretrain)
        table = database_for_clusters(dataset_root(settings.data), split, settings.data)
        initialise_clusters(network, table, settings.data, settings.run.seed, runtime)
    descriptors = descriptors_folder(settings, folder)
    confidence = kept_or_learned(network, settings, runtime, descriptors)
    test_and_report(network, split, settings, options, runtime, folder, descriptors, confidence)


def read_queries(settings: parser.EvalSettings) -> Split:
    """The test split, or its database with somebody's own photographs as queries."""
    root = dataset_root(settings.data)
    if settings.photos.no_labels:
        return read_photos_split(settings.data, root)
    return read_checked_split(settings.data, root, "test", queries_folder=settings.data.queries_folder)


def descriptors_folder(settings: parser.EvalSettings, folder: Path) -> Path:
    """A checkpoint's descriptors are kept beside it, where one can write, so that its next evaluation finds them."""
    resume = settings.run.resume
    beside = resume is not None and os.access(resume.parent, os.W_OK)
    return (resume.parent if resume is not None and beside else folder) / "descriptors"


if __name__ == "__main__":
    commons.run_door(main)
