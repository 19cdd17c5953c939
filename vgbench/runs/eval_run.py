"""A whole test: from settings to recalls and a report. The script, the notebook and the benchmark all run it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets_vg.catalog import KNOWN
from vgbench import parallel
from vgbench.data import Split, dataset_root
from vgbench.data.photos import read_photos_splits
from vgbench.data.positives import BY_DISTANCE
from vgbench.data.splits import read_checked_splits
from vgbench.models.options import network_option_names
from vgbench.models.weights import read_checkpoint
from vgbench.randomness import seed_everything
from vgbench.report.markdown import query_sets_table
from vgbench.runs.clusters import database_for_clusters, initialise_clusters, needs_clusters
from vgbench.runs.confidence import kept_or_learned
from vgbench.runs.facts import say_what_runs
from vgbench.runs.folder import descriptors_folder, open_run_folder, write_config
from vgbench.runs.gate import with_gate
from vgbench.runs.networks import network_to_test
from vgbench.runs.quantised import what_is_lost, with_calibration
from vgbench.runs.results import EvalResult
from vgbench.runs.settings import EvalSettings, flat
from vgbench.runs.testing import Record, pipeline_of, test_and_report, write_results
from vgbench.runs.trial import try_own_parts
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
    splits = read_queries(settings)
    seed_everything(settings.run.seed, "set-up")
    resume = settings.run.resume
    network = network_to_test({} if resume is None else read_checkpoint(resume), resume, settings)
    try_own_parts(network, settings.data.resize)
    runtime.prepare(network)
    with open_run_folder(settings.run) as folder:
        options: dict[str, Any] = flat(settings)
        options |= {name: network.config.get(name) for name in network_option_names()}
        write_config(folder, options)
        say_what_runs(settings, network, runtime, folder)
        if resume is None and settings.network.method is None:
            LOG.info("no --resume: the network is tested as --pretrain %s left it", settings.network.pretrain)
            if needs_clusters(network):
                table = database_for_clusters(dataset_root(settings.data), splits[0], settings.data)
                initialise_clusters(network, table, settings.data, settings.run.seed, runtime)
        runtime = with_calibration(settings, runtime)
        descriptors = descriptors_folder(resume, folder)
        pipeline = with_gate(pipeline_of(network, settings, runtime), descriptors)
        confidence = kept_or_learned(pipeline, settings, descriptors)

        def test(split: Split, own: Path) -> EvalResult:
            record = Record(own, descriptors, options, what_is_lost(network, split, settings, runtime))
            return test_and_report(pipeline, split, settings, record, confidence)

        return _test_all(splits, folder, test)


def read_queries(settings: EvalSettings) -> list[Split]:
    """A split with each folder of queries, or its database with somebody's own photographs as queries."""
    root, protocol = dataset_root(settings.data), settings.protocol
    if settings.photos.no_labels:
        return read_photos_splits(settings.data, root, settings.photos, protocol.split)
    _say_field_threshold(settings)
    return read_checked_splits(
        settings.data, root, protocol.split, settings.data.queries_folder, protocol.truth,
        rules=settings.sequence_rules,
    )  # fmt: skip


def _say_field_threshold(settings: EvalSettings) -> None:
    """Say how a set is judged for which papers do not use 25 m."""
    name = settings.data.dataset_name
    usual = KNOWN[name].threshold if name in KNOWN else None
    if usual is None or settings.protocol.truth != BY_DISTANCE:
        return
    judged = (settings.evaluation.threshold or (settings.data.val_positive_dist_threshold,))[0]
    if judged == usual:
        LOG.info("%s: judged within %g m, as papers do (--threshold METRES judges otherwise)", name, usual)
    else:
        LOG.info("%s: judged within %g m; published numbers are within %g m", name, judged, usual)


def _test_all(splits: Sequence[Split], folder: Path, test: Callable[[Split, Path], EvalResult]) -> EvalResult:
    """Test each split; several leave a folder each in the run's, one table, and results.json with all."""
    if len(splits) == 1:
        return test(splits[0], folder)
    tested = []
    for split in splits:
        own = folder / split.queries.root.name
        parallel.on_main(partial(own.mkdir, exist_ok=True))
        LOG.info("%s: %d queries", split.queries.root, len(split.queries))
        tested.append(test(split, own))
    facts = {**tested[0].facts, "query_sets": [one.facts for one in tested]}
    if parallel.is_main():
        write_results(folder, facts)
        if any(one.recalls for one in tested):
            LOG.info("%s", query_sets_table([one.facts for one in tested]))
    return dataclasses.replace(tested[0], folder=folder, facts=facts, query_sets=tuple(tested))
