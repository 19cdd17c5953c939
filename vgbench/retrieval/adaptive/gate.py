"""Which queries are re-ranked: those of which an estimator is not sure enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError
from vgbench.retrieval.adaptive import LEARNED
from vgbench.retrieval.metrics.confidence import Confidence, fit_confidence

Scores = Mapping[str, NDArray[np.float64]]
"""Estimator -> certainty of each query, float64 [Q], the larger the surer."""


@dataclass(frozen=True)
class Gate:
    """Re-ranks the queries whose certainty is below a limit.

    Attributes:
        estimator: as `--rerank_when`.
        below: the limit.
        source: where the limit, and what was learned, is from.
        names: estimators whose certainties `model` takes, in its order.
        model: gives the probability that the best match is right; None where the estimator itself counts.
        on_val: what choosing the limit found on val, for the report; empty where the user gave it.
    """

    estimator: str
    below: float
    source: str
    names: tuple[str, ...] = ()
    model: Confidence | None = None
    on_val: Mapping[str, float] | None = None

    def certainty(self, scores: Scores) -> NDArray[np.float64]:
        """Return float64 [Q], what is compared with the limit.

        Raises:
            UserError: an estimator knows nothing of some query.
        """
        return certainty_of(self.estimator, scores, self.names, self.model)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "estimator": self.estimator,
            "below": self.below,
            "source": self.source,
            "names": list(self.names),
            "model": None if self.model is None else self.model.as_json(),
            "on_val": None if self.on_val is None else dict(self.on_val),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Gate:
        """Read what `as_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        names = tuple(map(str, content["names"]))
        model = None if content["model"] is None else Confidence.from_json(content["model"])
        if model is not None and len(model.weights) != len(names):
            raise ValueError(f"{len(model.weights)} weights for {len(names)} estimators")
        on_val = content["on_val"]
        on_val = None if on_val is None else {str(key): float(value) for key, value in on_val.items()}
        return Gate(str(content["estimator"]), float(content["below"]), str(content["source"]), names, model, on_val)


def certainty_of(
    estimator: str, scores: Scores, names: tuple[str, ...], model: Confidence | None
) -> NDArray[np.float64]:
    """Return the certainty float64 [Q] by one estimator, or by a model of several; UserError where it is no number."""
    used = names if model is not None else (estimator,)
    for name in used:
        if not np.isfinite(scores[name]).all():
            raise UserError(
                f"--rerank_when {estimator}: {name} is no number for some queries (are there coordinates?). Expected "
                "an estimator that knows all of them; leave it out of --uncertainty"
            )
    return scores[estimator] if model is None else model(np.stack([scores[name] for name in names], axis=1))


def learned_from(scores: Scores, right: NDArray[np.bool_]) -> tuple[tuple[str, ...], Confidence]:
    """Fit logistic regression on all estimators but `random`; return their names and the model.

    It is that of the confidence of a match (`fit_confidence`): scikit-learn's with C = 1 and Platt's targets, so that a
    val split on which every match is right has a model too.

    Raises:
        UserError: no estimator is left.
    """
    names = tuple(name for name in scores if name not in ("random", LEARNED) and np.isfinite(scores[name]).all())
    if not names:
        raise UserError(
            "--rerank_when learned: there is nothing to learn from. Expected an estimator other than random in "
            "--uncertainty"
        )
    return names, fit_confidence(np.stack([scores[name] for name in names], axis=1), right)


def best_limit(
    certainty: NDArray[np.float64], before: NDArray[np.bool_], after: NDArray[np.bool_]
) -> tuple[float, dict[str, float]]:
    """Return the limit below which re-ranking gives the best R@1, of several the one that re-ranks the fewest.

    Args:
        certainty: float64 [Q].
        before, after: bool [Q], whether the best match is right without and with re-ranking.

    Returns:
        The limit, and `recall_none`, `recall_all`, `recall`, `share` (percent), `queries` there.
    """
    order = np.argsort(certainty, kind="stable")
    ranked = certainty[order]
    gained = np.concatenate([[0], np.cumsum(after[order].astype(np.int64) - before[order].astype(np.int64))])
    # Queries of one certainty go together: a limit lies before the first of each.
    cut = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]]) if len(ranked) else np.array([True])
    allowed = np.flatnonzero(cut)
    count = int(allowed[np.argmax(gained[allowed])])
    if count == len(ranked):
        limit = float(np.nextafter(ranked[-1], np.inf)) if count else 0.0
    else:
        limit = float(ranked[count])
    queries = max(len(ranked), 1)
    right = int(before.sum())
    return limit, {
        "recall_none": round(100 * right / queries, 3),
        "recall_all": round(100 * int(after.sum()) / queries, 3),
        "recall": round(100 * (right + int(gained[count])) / queries, 3),
        "share": round(100 * count / queries, 3),
        "queries": float(len(ranked)),
    }
