"""Where a query was taken, by its predictions: the best match's position, and that which the best ones agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.retrieval.options import PoseOptions
from vgbench.retrieval.predictions import Predictions

QUANTILES = (25, 50, 75, 90)
METRES = tuple(range(1, 101))
_QUERIES_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Poses:
    """Predicted positions of Q queries.

    Attributes:
        best: float64 [Q,2], the best match's, metres east and north.
        weighted: float64 [Q,2], the average of the candidates that agree.
        agreeing: int64 [Q], how many they are.
    """

    best: NDArray[np.float64]
    weighted: NDArray[np.float64]
    agreeing: NDArray[np.int64]


def predicted_poses(predictions: Predictions, database_utm: NDArray[np.float64], options: PoseOptions) -> Poses:
    """Place each query by its predictions.

    The weighted position is robust against single wrong candidates. A candidate's weight is exp(-(d - d1) / t), d its
    distance, d1 the best one's, and t the median over all queries of how far the candidates' distances spread, so that
    it fits any descriptor and any re-ranker's costs. The candidate with the most weight within `pose_radius` of it is
    the centre (equal: the better one), and the position is the weighted mean of those within that radius.

    Args:
        predictions: of Q queries.
        database_utm: float64 [N,2], metres; where they are not known, neither are the positions (NaN).
    """
    if not np.isfinite(database_utm).all():
        nowhere = np.full((len(predictions), 2), np.nan)
        return Poses(nowhere, nowhere, np.zeros(len(predictions), np.int64))
    count = min(options.pose_candidates, predictions.indices.shape[1])
    distances = predictions.distances[:, :count].astype(np.float64)
    spread = float(np.median(distances[:, -1] - distances[:, 0])) if len(distances) else 0.0
    weights = np.exp(-(distances - distances[:, :1]) / max(spread, 1e-9))
    weighted = np.empty((len(predictions), 2))
    agreeing = np.empty(len(predictions), np.int64)
    for start in range(0, len(predictions), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        at = database_utm[predictions.indices[part, :count]]
        near = ((at[:, :, None] - at[:, None]) ** 2).sum(-1) <= options.pose_radius**2
        # Rounded: a centre must not change by the last bit of a sum.
        centre = np.round((near * weights[part, None]).sum(2), 9).argmax(1)
        member = np.take_along_axis(near, centre[:, None, None], axis=1)[:, 0]
        share = weights[part] * member
        # Around the first candidate: sums of seven-digit metres lose what differences keep.
        offset = ((at - at[:, :1]) * share[..., None]).sum(1) / share.sum(1, keepdims=True)
        weighted[part] = at[:, 0] + offset
        agreeing[part] = member.sum(1)
    return Poses(database_utm[predictions.indices[:, 0]], weighted, agreeing)


def position_errors(poses: Poses, queries_utm: NDArray[np.float64], options: PoseOptions) -> dict[str, Any]:
    """Return the quantiles of how far predicted positions are from the true ones [Q,2], metres, for results.json."""
    facts: dict[str, Any] = {"candidates": options.pose_candidates, "radius_m": options.pose_radius}
    for name in ("best", "weighted"):
        off = np.hypot(*(getattr(poses, name) - queries_utm).T)
        facts[name] = {
            str(q): round(float(v), 2) for q, v in zip(QUANTILES, np.percentile(off, QUANTILES), strict=True)
        }
    return facts


def recall_by_distance(metres: NDArray[np.float64], values: Sequence[int]) -> dict[str, Any]:
    """Return R@N in percent against the threshold in metres (1 to 100), as results.json holds them.

    Args:
        metres: float64 [Q,K], ground distance of each prediction to its query, best first.
        values: the N; one beyond K counts all K.
    """
    nearest = np.minimum.accumulate(metres, axis=1)
    curves: dict[str, Any] = {"metres": list(METRES)}
    for value in values:
        off = np.sort(nearest[:, min(value, metres.shape[1]) - 1])
        within = np.searchsorted(off, METRES, side="right")
        curves[str(value)] = [round(100.0 * int(count) / len(off), 3) for count in within]
    return curves
