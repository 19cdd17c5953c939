"""Learning the confidence of matches on one split, and keeping it for other queries of the same pipeline."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from vgbench.data.protocol import Split
from vgbench.files import write_text
from vgbench.retrieval.confidence import Confidence
from vgbench.retrieval.extract import weights_hash
from vgbench.retrieval.findings import Calibrated, learn_confidence
from vgbench.retrieval.options import thresholds_in_order
from vgbench.retrieval.pipeline import Pipeline

log = logging.getLogger(__name__)

FILE = "confidence.json"
# Options of a test that change its speed or its tables, not its distances.
_WITHOUT_EFFECT = (
    "infer_batch_size", "search_backend", "threshold", "compare_queries", "recall_values", "pose_candidates",
    "pose_radius", "efficient_ram_testing",
)  # fmt: skip


def facts_of(pipeline: Pipeline) -> dict[str, Any]:
    """Return what the confidence of a match depends on, as JSON values."""
    search = {k: v for k, v in dataclasses.asdict(pipeline.evaluation).items() if k not in _WITHOUT_EFFECT}
    chain = dataclasses.asdict(pipeline.reranking) if pipeline.reranking.names else {}
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
        if content["pipeline"] != facts_of(pipeline):
            log.debug("%s: learned with other options", path)
            return None
        return Calibrated(Confidence.from_json(content["model"]), str(content["source"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
