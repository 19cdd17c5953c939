"""Which predictions were right, and how far off the others were: the facts that the page and the pictures draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgbench.data import Neighbours, Split
from vgbench.retrieval.metrics.recall import hits
from vgbench.retrieval.predictions import Predictions

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Outcome:
    """What became of each query.

    Attributes:
        correct: bool [Q,K], whether the k-th prediction is one of the query's positives.
        metres: float64 [Q,K], ground distance from the query to the k-th prediction.
        first_hit: int64 [Q], rank (1 = best) of the first right prediction, `NEVER` if there is none in K.
        answerable: bool [Q], whether the database holds any positive of the query.
    """

    correct: NDArray[np.bool_]
    metres: NDArray[np.float64]
    first_hit: NDArray[np.int64]
    answerable: NDArray[np.bool_]

    @property
    def hit(self) -> NDArray[np.bool_]:
        """bool [Q]: the best prediction is right (what R@1 counts)."""
        return np.asarray(self.first_hit == 1)

    def recall_curve(self) -> NDArray[np.float64]:
        """float64 [K]: R@1 .. R@K in percent; a query without positives counts as missed."""
        queries, depth = self.correct.shape
        found = np.bincount(self.first_hit[self.first_hit <= depth], minlength=depth + 1)[1:]
        return np.asarray(100.0 * np.cumsum(found) / max(queries, 1))

    def worst_first(self) -> NDArray[np.int64]:
        """int64 [Q]: query rows, worst failure first.

        A failure is worse the later its first right prediction comes, then the farther off its best prediction lies.
        Failures that no network could have avoided (no positives) come after the others; hits come last.
        """
        kind = np.where(self.hit, 2, np.where(self.answerable, 0, 1))
        off = self.metres[:, 0] if self.metres.shape[1] else np.zeros(len(kind))
        return np.lexsort((-off, -self.first_hit, kind)).astype(np.int64)


def outcome_of(split: Split, predictions: Predictions, neighbours: Neighbours) -> Outcome:
    """Compare predictions (indices int64 [Q,K]) with the positives of each query.

    Raises:
        ValueError: the numbers of queries differ.
    """
    indices = predictions.indices
    queries, depth = indices.shape
    correct = hits(indices, neighbours)
    first_hit = np.where(correct.any(1), correct.argmax(1) + 1, NEVER) if depth else np.full(queries, NEVER)
    offsets = split.database.utm[indices] - split.queries.utm[:, None, :]
    metres = np.hypot(offsets[..., 0], offsets[..., 1])
    return Outcome(correct, metres, first_hit.astype(np.int64), np.diff(neighbours.indptr) > 0)


def metres_text(metres: float) -> str:
    """Write a ground distance for a person: `8 m`, `140 m`, `1.2 km`, `340 km`."""
    if math.isnan(metres):
        return ""
    if metres < 9.95:
        return f"{metres:.1f} m"
    if metres < 999.5:
        return f"{metres:.0f} m"
    return f"{metres / 1000:.1f} km" if metres < 99_950 else f"{metres / 1000:.0f} km"
