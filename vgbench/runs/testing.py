"""The end of every run: test the network, print the recalls, write results, predictions and the report."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench import parallel
from vgbench.data import Split
from vgbench.data.sequences import SequenceTable
from vgbench.files import write_text
from vgbench.models import Network
from vgbench.report.history import read_history
from vgbench.report.markdown import recall_table
from vgbench.report.outputs import Tested, check_report, findings_lines, uncertainty_lines, write_outputs
from vgbench.report.positions import Placed
from vgbench.retrieval import Evaluation
from vgbench.retrieval.metrics.bootstrap import first_positive_ranks
from vgbench.retrieval.metrics.confidence import Calibrated
from vgbench.retrieval.metrics.findings import find
from vgbench.retrieval.metrics.recall import hits
from vgbench.retrieval.pipeline import Pipeline
from vgbench.retrieval.rerank.chain import predictions_needed, steps_table
from vgbench.runs.facts import code_version
from vgbench.runs.results import EvalResult
from vgbench.runs.settings import Settings, not_at_default
from vgbench.runtime import Runtime
from vgbench.training.checkpoint import METRICS

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """Where a run writes, and what it says that it ran with.

    Attributes:
        folder: of the run.
        descriptors: folder of the descriptors, which are reused where they are of these weights and images.
        options: every option by its flat name, for results.json.
        int8: what 8 bits cost (`quantised.what_is_lost`), likewise; empty where nothing is in 8 bits.
    """

    folder: Path
    descriptors: Path
    options: Mapping[str, Any]
    int8: Mapping[str, Any] = field(default_factory=dict)


def pipeline_of(network: Network, settings: Settings, runtime: Runtime) -> Pipeline:
    """How the settings make predictions with a network."""
    return Pipeline(
        network, settings.data, settings.evaluation, settings.rerank, runtime, rules=settings.sequence_rules
    )


def test_and_report(
    pipeline: Pipeline,
    split: Split,
    settings: Settings,
    record: Record,
    confidence: Calibrated | None,
) -> EvalResult:
    """Test a network on a split and write everything that a run leaves.

    Args:
        pipeline: of the settings, with the gate of adaptive re-ranking.
        record: where it goes.
        confidence: how likely a match is right, as learned elsewhere.
    """
    folder, descriptors = record.folder, record.descriptors
    network, runtime = pipeline.network, pipeline.runtime
    check_report(settings.report, predictions_needed(settings.evaluation.recall_values, settings.rerank), split)
    found = pipeline.evaluate(split, descriptors)
    started = time.perf_counter()
    findings = find(split, found.predictions, found.neighbours, settings.evaluation, found.threshold, confidence)
    results = (
        results_of(found, network, split, record.options) | findings.facts | {"options_set": not_at_default(settings)}
    )
    if record.int8:
        results["int8"] = dict(record.int8)
    tested_as = EvalResult(
        folder=folder,
        recalls=found.recalls,
        threshold=found.threshold,
        predictions=found.predictions,
        neighbours=found.neighbours,
        split=split,
        network=network,
        facts=results,
    )
    if not parallel.is_main():
        return tested_as
    found.predictions.save(folder / "predictions.h5", found.fingerprint, _ranks(found))
    history = read_history(folder / METRICS)
    write_results(folder, results)  # what comes now can fail, and the test need not be run again for it
    if found.recalls:
        LOG.info("%s", recall_table(results))
    if gps := Placed(split, found.predictions, findings).facts():
        results["gps"] = gps
    tested = Tested(network, settings.data.resize, runtime, split, found, findings, results, history)
    report = write_outputs(folder, tested, settings.report, descriptors)
    results["seconds"]["report"] = round(time.perf_counter() - started, 3)
    write_results(folder, results)
    if found.rerank and found.recalls:
        LOG.info("%s", steps_table(found.rerank))
    lines = findings_lines(findings.facts | ({"gps": gps} if gps else {}))
    for line in [*lines, *uncertainty_lines(results["uncertainty"])]:
        LOG.info("%s", line)
    LOG.info("report: %s", report)
    return tested_as


def _ranks(found: Evaluation) -> NDArray[np.int32] | None:
    """Return where each query's first positive is, at the threshold that counts; None without coordinates."""
    if not found.neighbours:
        return None
    return first_positive_ranks(hits(found.predictions.indices, next(iter(found.neighbours.values()))))


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write a run's results.json."""
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")


def results_of(found: Evaluation, network: Network, split: Split, options: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json holds."""
    return {
        "dataset": split.root.name,
        "split": split.name,
        "queries_folder": split.queries.root.name,
        "protocol": split.truth.label,
        "network": network.config,
        "descriptors_dim": found.descriptors_dim,
        "sequences": sequence_facts(split),
        "recalls": {
            f"{threshold:g}": {str(n): round(percent, 3) for n, percent in recalls.items()}
            for threshold, recalls in found.recalls.items()
        },
        "rerank": [step.as_json() for step in found.rerank],
        "compression": found.compression,
        "uncertainty": {} if found.judged is None else dict(found.judged.facts),
        "queries": len(split.queries),
        "database": len(split.database),
        "queries_without_positives": found.queries_without_positives,
        "seconds": {stage: round(seconds, 3) for stage, seconds in found.seconds.items()},
        "images_per_second": round(found.images_per_s, 1),
        "options": dict(options),
        "version": code_version(),
    }


def sequence_facts(split: Split) -> dict[str, Any]:
    """Return how images were cut into the sequences that recalls are of; {} where they are of images."""
    queries, database = split.queries, split.database
    if not (isinstance(queries, SequenceTable) and isinstance(database, SequenceTable)):
        return {}
    frames = {"query_frames": len(queries.frames), "database_frames": len(database.frames)}
    return {**dataclasses.asdict(queries.rules), **frames}
