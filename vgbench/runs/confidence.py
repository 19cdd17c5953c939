"""Where the confidence of a match comes from: learned on val after training, kept, and taken up by evaluations."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

from vgbench import parallel
from vgbench.data import Split, dataset_root
from vgbench.data.splits import read_checked_split
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.report.gallery import spread
from vgbench.retrieval import calibrated
from vgbench.retrieval.findings import Calibrated
from vgbench.runs.settings import EvalSettings, Settings
from vgbench.runs.testing import pipeline_of
from vgbench.runtime import Runtime

LOG = logging.getLogger("vgbench")


def learn_on_val(network: Network, val: Split, settings: Settings, runtime: Runtime, folder: Path) -> Calibrated | None:
    """Learn on val how likely a match is right, keep it in the run's folder and return it; None for other queries."""
    pipeline = pipeline_of(network, settings, runtime)
    described = folder / "descriptors" / "confidence"
    learned = calibrated.learn(pipeline, val, described, "the val split")
    parallel.on_main(lambda: shutil.rmtree(described, ignore_errors=True))
    if learned is not None and parallel.is_main():
        calibrated.save(folder / calibrated.FILE, learned, pipeline)
    return learned if settings.data.queries_folder == "queries" else None


def kept_or_learned(network: Network, settings: EvalSettings, runtime: Runtime, descriptors: Path) -> Calibrated | None:
    """What training learned on val of the confidence of a match, where it is of the same kind of test.

    For photographs without coordinates it is else learned on the dataset's own test queries.
    """
    pipeline = pipeline_of(network, settings, runtime)
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
