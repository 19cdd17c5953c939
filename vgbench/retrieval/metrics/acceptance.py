"""Accepting or refusing the best match by how sure the search is: scores, and precision against recall."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.retrieval.predictions import Predictions

# Points of a curve that results.json keeps.
_KEPT = 100


def distance_and_ratio(
    predictions: Predictions, database_utm: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """Return two scores of each best match, the smaller the surer: float64 [Q,2].

    They are its distance, and the ratio of that to the distance of the best prediction of another place (farther than
    `radius` metres from it; the last prediction where there is no such). Costs of re-rankers may be negative; then the
    ratio is that of their exponentials, which for `local` is that of the inliers.
    """
    at = database_utm[predictions.indices]
    elsewhere = ((at - at[:, :1]) ** 2).sum(-1) > radius**2
    other = np.where(elsewhere.any(1), elsewhere.argmax(1), predictions.indices.shape[1] - 1)
    first = predictions.distances[:, 0].astype(np.float64)
    second = np.take_along_axis(predictions.distances, other[:, None], axis=1)[:, 0].astype(np.float64)
    if (predictions.distances < 0).any():
        ratio = np.exp(first - second)
    else:
        ratio = np.divide(first, second, out=np.ones_like(first), where=second > 0)
    return np.stack([first, ratio], axis=1)


def precision_recall(score: NDArray[np.float64], right: NDArray[np.bool_], answerable: int) -> dict[str, Any]:
    """Return the precision-recall curve of accepting the best matches up to each score, as results.json holds it.

    Precision is the share of right ones among the accepted, recall that of right and accepted ones among the queries
    that have a positive in the database. Queries of one score are accepted together. scikit-learn's
    `precision_recall_curve` divides by the right matches alone, so that a network that is seldom right would reach a
    recall of 100%; where each answerable query is matched rightly, the two are the same (a test compares them).

    Args:
        score: float64 [Q], the smaller the surer.
        right: bool [Q], whether the best match is right.
        answerable: how many of the queries have a positive.

    Returns:
        `recall` and `precision` (percent, at most 100 points), `average_precision`, `recall_at_100_precision` (R@100P,
        percent) and `accept_below`, the score up to which every match is right (None: the surest is wrong).
    """
    order = np.argsort(score, kind="stable")
    ranked, hit = score[order], right[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # the last of each score
    true = np.cumsum(hit)[last]
    accepted = np.flatnonzero(last) + 1
    recall, precision = true / max(answerable, 1), true / accepted
    step = np.diff(recall, prepend=0.0)
    faultless = np.flatnonzero(true == accepted)
    best = faultless[-1] if len(faultless) else None
    kept = np.unique(np.linspace(0, len(recall) - 1, _KEPT).round().astype(np.int64))
    return {
        "average_precision": round(100 * float((step * precision).sum()), 3),
        "recall_at_100_precision": 0.0 if best is None else round(100 * float(recall[best]), 3),
        "accept_below": None if best is None else round(float(ranked[last][best]), 6),
        "recall": [round(100 * float(v), 3) for v in recall[kept]],
        "precision": [round(100 * float(v), 3) for v in precision[kept]],
    }
