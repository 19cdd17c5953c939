"""Whether one run is better than another on the same queries: a paired bootstrap over queries (Efron, 1979)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A difference of two recalls on the same queries.

    Attributes:
        mean: points (percent).
        low, high: the 95% interval of it, points.
    """

    mean: float
    low: float
    high: float


def first_positive_ranks(hits: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return where the first right prediction of each query is, from 0, -1 where there is none: int32 [Q].

    Args:
        hits: bool [Q,K], which predictions are right, best first.
    """
    return np.where(hits.any(axis=1), hits.argmax(axis=1), -1).astype(np.int32)


def paired_difference(
    ranks: NDArray[np.int32], baseline: NDArray[np.int32], value: int, seed: int = 0
) -> Difference | None:
    """Return R@`value` less the baseline's, with its interval; None where the queries are not the same number.

    Args:
        ranks, baseline: int32 [Q] as `first_positive_ranks` returns them; several seeds' may stand in rows, [S,Q], and
            are averaged.
    """
    right, reference = (_right(np.atleast_2d(one), value) for one in (ranks, baseline))
    if right.shape != reference.shape or not right.size:
        return None
    difference = 100 * (right - reference)
    mean = float(difference.mean())
    if not difference.any() or len(difference) == 1:
        return Difference(mean, mean, mean)
    from scipy.stats import bootstrap  # half a second to import

    found = bootstrap(
        (difference,), np.mean, n_resamples=DRAWS, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Difference(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def _right(ranks: NDArray[np.int32], value: int) -> NDArray[np.float64]:
    """Return the share of seeds that find each query, float64 [Q]."""
    return np.asarray(((ranks >= 0) & (ranks < value)).mean(axis=0), np.float64)
