"""How well estimators tell right matches from wrong ones, and what re-ranking only the unsure queries would do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.retrieval.adaptive.gate import Gate, Scores
from vgbench.retrieval.metrics.acceptance import precision_recall

_POINTS = 20  # of a curve over shares, beside its beginning


def area_of(certainty: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the precision-recall curve of "the best match is right", ordered by the certainty, surest first.

    Here recall is the share of the right matches that are accepted, as in the papers on uncertainty; `accept` in
    results.json divides by the queries that have a positive.

    Args:
        certainty: float64 [Q], finite.
        right: bool [Q].

    Returns:
        `auprc` (percent, the area as average precision), `recall` and `precision` (percent).
    """
    curve = precision_recall(-certainty, right, int(right.sum()))
    return {"auprc": curve["average_precision"], "recall": curve["recall"], "precision": curve["precision"]}


def recall_by_share(
    certainty: NDArray[np.float64], before: NDArray[np.bool_], after: NDArray[np.bool_]
) -> dict[str, list[float]]:
    """Return R@1 where only the least sure queries are re-ranked, against their share, both in percent.

    Args:
        certainty: float64 [Q]; of equal ones, those in front go first.
        before, after: bool [Q], whether the best match is right without and with re-ranking.
    """
    order = np.argsort(certainty, kind="stable")
    changed = np.cumsum(after[order].astype(np.int64) - before[order].astype(np.int64))
    right = int(before.sum()) + np.concatenate([[0], changed])
    count = len(order)
    kept = np.unique(np.linspace(0, count, min(_POINTS, count) + 1).round().astype(np.int64))
    return {
        "share": [round(100 * float(k) / count, 3) for k in kept],
        "recall_at_1": [round(100 * float(right[k]) / count, 3) for k in kept],
    }


def uncertainty_facts(
    scores: Scores, before: NDArray[np.bool_] | None, after: NDArray[np.bool_] | None, gate: Gate | None
) -> dict[str, Any]:
    """Return what results.json holds of the estimators; those that are no number for some query are left out.

    Args:
        before: bool [Q], whether the search's best match is right; None where nobody knows.
        after: the same after all queries were re-ranked; None where they were not.
        gate: whose certainty is judged too, as "learned", where it has a model.
    """
    if before is None or not len(before):
        return {}
    judged = dict(scores)
    if gate is not None and gate.model is not None:
        judged[gate.estimator] = gate.certainty(scores)
    finite = {name: values for name, values in judged.items() if np.isfinite(values).all()}
    facts: dict[str, Any] = {"recall_at_1": round(100 * float(before.mean()), 3)}
    facts["estimators"] = {name: area_of(values, before) for name, values in finite.items()}
    if after is not None:
        facts["by_share"] = {name: recall_by_share(values, before, after) for name, values in finite.items()}
    return facts
