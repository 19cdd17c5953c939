"""A whole test: from settings to recalls and a report. The script, the notebook and the benchmark all run it."""

from __future__ import annotations

import logging
from typing import Any

from vgbench import parallel
from vgbench.data import Split, dataset_root
from vgbench.data.photos import read_photos_split
from vgbench.data.splits import read_checked_split
from vgbench.models.options import network_option_names
from vgbench.models.weights import read_checkpoint
from vgbench.randomness import seed_everything
from vgbench.runs.clusters import database_for_clusters, initialise_clusters
from vgbench.runs.confidence import kept_or_learned
from vgbench.runs.facts import say_what_runs
from vgbench.runs.folder import descriptors_folder, open_run_folder, write_config
from vgbench.runs.networks import network_to_test
from vgbench.runs.results import EvalResult
from vgbench.runs.settings import EvalSettings, flat
from vgbench.runs.testing import test_and_report
from vgbench.runtime import resolve_runtime

LOG = logging.getLogger("vgbench")


def evaluate(settings: EvalSettings) -> EvalResult:
    """Test a network on a dataset, and leave a run's folder.

    Args:
        settings: of `vgbench.eval_settings`.

    Raises:
        UserError: what a person can mend: no such dataset, a checkpoint of another network, a file that cannot be
            written.
    """
    runtime = resolve_runtime(settings.runtime)
    parallel.start(runtime.device)
    split = read_queries(settings)
    seed_everything(settings.run.seed, "set-up")
    resume = settings.run.resume
    network = network_to_test({} if resume is None else read_checkpoint(resume), resume, settings)
    runtime.prepare(network)
    with open_run_folder(settings.run) as folder:
        options: dict[str, Any] = flat(settings)
        options |= {name: network.config.get(name) for name in network_option_names()}
        write_config(folder, options)
        say_what_runs(settings, network, runtime, folder)
        if resume is None and settings.network.method is None:
            LOG.info("no --resume: the network is tested as --pretrain %s left it", settings.network.pretrain)
            table = database_for_clusters(dataset_root(settings.data), split, settings.data)
            initialise_clusters(network, table, settings.data, settings.run.seed, runtime)
        descriptors = descriptors_folder(resume, folder)
        confidence = kept_or_learned(network, settings, runtime, descriptors)
        return test_and_report(network, split, settings, options, runtime, folder, descriptors, confidence)


def read_queries(settings: EvalSettings) -> Split:
    """The test split, or its database with somebody's own photographs as queries."""
    root = dataset_root(settings.data)
    if settings.photos.no_labels:
        return read_photos_split(settings.data, root)
    return read_checked_split(settings.data, root, "test", queries_folder=settings.data.queries_folder)
