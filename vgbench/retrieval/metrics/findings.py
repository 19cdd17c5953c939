"""What a finished search says beyond its recalls: positions, when to trust a match, and which queries are hard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.data.positives import Neighbours
from vgbench.data.protocol import Split
from vgbench.retrieval.metrics.acceptance import distance_and_ratio, precision_recall
from vgbench.retrieval.metrics.breakdown import breakdown
from vgbench.retrieval.metrics.confidence import Calibrated, calibration, cross_validated
from vgbench.retrieval.metrics.pose import Poses, position_errors, predicted_poses, recall_by_distance
from vgbench.retrieval.metrics.recall import hits
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Findings:
    """Findings on Q queries.

    Attributes:
        poses: the predicted positions.
        confidence: float64 [Q], how likely the best match is right, 0 to 1; NaN where nothing could be learned.
        facts: what results.json holds of all this; of queries without coordinates only where the confidence is from.
    """

    poses: Poses
    confidence: NDArray[np.float64]
    facts: dict[str, Any]


def find(
    split: Split,
    predictions: Predictions,
    neighbours: Mapping[float, Neighbours],
    options: EvalOptions,
    threshold: float,
    calibrated: Calibrated | None = None,
) -> Findings:
    """Analyse predictions.

    Args:
        neighbours: threshold in metres -> positives; empty where the queries have no coordinates.
        threshold: the one that counts, metres.
        calibrated: the model of the confidence; None to learn it from these queries, each from the others.
    """
    poses = predicted_poses(predictions, split.database.utm, options)
    scores = distance_and_ratio(predictions, split.database.utm, threshold)
    if not neighbours:
        if calibrated is None:
            return Findings(poses, np.full(len(predictions), np.nan), {})
        return Findings(poses, calibrated.model(scores), {"confidence": {"learned_from": calibrated.source}})
    positives = neighbours[threshold]
    right = hits(predictions.indices[:, :1], positives)[:, 0]
    confidence = cross_validated(scores, right) if calibrated is None else calibrated.model(scores)
    source = "cross-validation over the queries" if calibrated is None else calibrated.source
    answerable = int((positives.counts > 0).sum())
    facts: dict[str, Any] = _by_metres(split, predictions, poses, options) if split.located else {}
    facts |= {
        "accept": {
            name: precision_recall(scores[:, column], right, answerable)
            for column, name in enumerate(("distance", "ratio"))
        },
    }
    if split.located:
        facts["breakdown"] = breakdown(split, positives, right)
    if np.isfinite(confidence).all():
        facts["confidence"] = {"learned_from": source, **calibration(confidence, right)}
    return Findings(poses, confidence, facts)


def _by_metres(split: Split, predictions: Predictions, poses: Poses, options: EvalOptions) -> dict[str, Any]:
    """Return what distances on the ground say, as results.json holds it."""
    metres = np.hypot(*np.moveaxis(split.database.utm[predictions.indices] - split.queries.utm[:, None], 2, 0))
    return {
        "pose": position_errors(poses, split.queries.utm, options),
        "recall_by_distance": recall_by_distance(metres, options.recall_values),
    }
