"""Where the confidence of a match comes from: learned on val after training, kept, and taken up by evaluations."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from vgbench import parallel
from vgbench.data import dataset_root
from vgbench.data.protocol import Split
from vgbench.data.splits import read_checked_split
from vgbench.errors import UserError, in_short
from vgbench.files import write_text
from vgbench.options import Mark, marked
from vgbench.report.gallery import spread
from vgbench.retrieval.extraction.extract import weights_hash
from vgbench.retrieval.metrics.confidence import Calibrated, Confidence, learn_confidence
from vgbench.retrieval.options import EvalOptions, thresholds_in_order
from vgbench.retrieval.pipeline import Pipeline
from vgbench.runs.settings import EvalSettings, Settings

LOG = logging.getLogger(__name__)

FILE = "confidence.json"


def learn_on_val(pipeline: Pipeline, val: Split, settings: Settings, folder: Path) -> Calibrated | None:
    """Learn on val how likely a match is right, keep it in the run's folder and return it; None for other queries."""
    described = folder / "descriptors" / "confidence"
    learned = learn(pipeline, val, described, "the val split")
    parallel.on_main(lambda: shutil.rmtree(described, ignore_errors=True))
    if learned is not None and parallel.is_main():
        save(folder / FILE, learned, pipeline)
    return learned if settings.data.queries_folder == ("queries",) else None


def kept_or_learned(pipeline: Pipeline, settings: EvalSettings, descriptors: Path) -> Calibrated | None:
    """What training learned on val of the confidence of a match, where it is of the same kind of test.

    For photographs without coordinates it is else learned on the dataset's own test queries.
    """
    resume, photos = settings.run.resume, settings.photos
    kept = None if resume is None else load(resume.parent / FILE, pipeline)
    if not photos.no_labels:
        return kept if settings.data.queries_folder == ("queries",) else None
    if kept is not None or photos.confidence_queries == 0 or photos.database_folder is not None:
        return kept
    data = dataclasses.replace(settings.data, queries_folder=("queries",), on_bad_image="skip")
    try:
        labelled = read_checked_split(data, dataset_root(data), "test")
    except UserError as error:
        LOG.warning("no confidence: there are no test queries to learn it from (%s)", error)
        return None
    some = labelled.queries.select(spread(len(labelled.queries), photos.confidence_queries))
    return learn(pipeline, dataclasses.replace(labelled, queries=some), descriptors, "the dataset's test queries")


def facts_of(pipeline: Pipeline) -> dict[str, Any]:
    """Return what the confidence of a match depends on, as JSON values."""
    without_effect = marked(Mark.NO_DISTANCE, EvalOptions)
    search = {k: v for k, v in dataclasses.asdict(pipeline.evaluation).items() if k not in without_effect}
    chain = dataclasses.asdict(pipeline.reranking) if pipeline.reranking.is_used else {}
    thresholds = thresholds_in_order(pipeline.evaluation.threshold, (pipeline.data.val_positive_dist_threshold,))
    facts = {
        "weights": weights_hash(pipeline.network),
        "dataset": pipeline.data.dataset_name,
        "resize": pipeline.data.resize,
        "threshold": thresholds[0],
        "predictions": max(pipeline.evaluation.recall_values),
        **search,
        **chain,
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return plain


def learn(pipeline: Pipeline, split: Split, folder: Path, source: str) -> Calibrated | None:
    """Test a split whose coordinates are known and learn from it; None where it has no queries."""
    found = pipeline.evaluate(split, folder)
    model = learn_confidence(split, found.predictions, found.neighbours)
    return None if model is None else Calibrated(model, f"{source} ({model.queries:,} queries)")


def save(path: Path, calibrated: Calibrated, pipeline: Pipeline) -> None:
    """Keep a model for `load`."""
    content = {"source": calibrated.source, "model": calibrated.model.as_json(), "pipeline": facts_of(pipeline)}
    write_text(path, json.dumps(content, indent=2) + "\n")


def load(path: Path, pipeline: Pipeline) -> Calibrated | None:
    """Return the model that `save` kept, None where there is none or it is of another pipeline."""
    try:
        content = json.loads(path.read_text())
        known, asked = content["pipeline"], facts_of(pipeline)
        if known["weights"] != asked["weights"]:
            LOG.warning("%s: learned with another network; there is no confidence of matches", path)
            return None
        if known != asked:
            LOG.debug("%s: learned with other options", path)
            return None
        return Calibrated(Confidence.from_json(content["model"]), str(content["source"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        LOG.warning("%s: damaged (%s); there is no confidence of matches", path, in_short(error))
        return None
