"""Clusters of each query's candidates, for all queries at once.

Every function takes squared distances [Q,K,K] and a radius in metres, and returns labels int64 [Q,K], a cluster being
named by the position of one of its members, and the sizes int64 [Q,K] of each candidate's cluster. scikit-learn and
SciPy cluster one set of points a call; here are thousands of queries with 20 candidates each, so the calls would take
longer than all clusters do here. The tests compare with both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Clusters = tuple[NDArray[np.int64], NDArray[np.int64]]
MIN_SAMPLES = 3  # candidates, itself among them, that make one a core of dbscan's


def neighbourhoods(squared: NDArray[np.float64], radius: float) -> Clusters:
    """Count each candidate's neighbours within the radius, itself included; squared distances [Q,K,K] in m^2.

    Labels: the candidate with most neighbours (the first of equals) takes all of its own that are free, and so on.
    """
    near = squared <= radius**2
    sizes = near.sum(2)
    queries, count = sizes.shape
    labels = np.full((queries, count), -1, np.int64)
    rows = np.arange(queries)
    for _ in range(count):
        free = labels < 0
        if not free.any():
            break
        leader = np.where(free, sizes, -1).argmax(1)
        taken = free & near[rows, leader]
        labels = np.where(taken, leader[:, None], labels)
    return labels, sizes


def dbscan(squared: NDArray[np.float64], radius: float) -> Clusters:
    """DBSCAN (Ester et al., 1996) on squared distances [Q,K,K]; MIN_SAMPLES; noise is a cluster of its own."""
    near = squared <= radius**2
    core = near.sum(2) >= MIN_SAMPLES
    count = core.shape[1]
    labels = np.where(core, np.arange(count), count)
    linked = near & core[:, :, None] & core[:, None]
    while True:  # the smallest position in a chain of cores names it; each pass doubles what is known
        lowest = np.where(linked, labels[:, None], count).min(2)
        lowest = np.where(core, np.minimum(labels, lowest), count)
        lowest = np.minimum(lowest, np.take_along_axis(lowest, np.minimum(lowest, count - 1), 1))
        lowest = np.where(core, lowest, count)
        if (lowest == labels).all():
            break
        labels = lowest
    border = np.where(near & core[:, None], labels[:, None], count).min(2)
    labels = np.where(core, labels, border)
    labels = np.where(labels == count, np.arange(count), labels)
    return labels, _sizes(labels)


def agglomerative(squared: NDArray[np.float64], radius: float) -> Clusters:
    """Merge the two nearest clusters while all members lie within the radius; squared distances [Q,K,K] in m^2.

    Complete linkage (Sørensen, 1948).
    """
    queries, count = squared.shape[:2]
    apart = squared.copy()
    apart[:, np.arange(count), np.arange(count)] = np.inf
    labels = np.broadcast_to(np.arange(count), (queries, count)).copy()
    rows = np.arange(queries)
    for _ in range(count - 1):
        nearest = apart.reshape(len(rows), -1).argmin(1)
        left, right = np.minimum(*np.divmod(nearest, count)), np.maximum(*np.divmod(nearest, count))
        some = apart[np.arange(len(rows)), left, right] <= radius**2
        if not some.any():
            break
        # Queries that are done leave; what is left of them is never looked at again.
        apart, rows, left, right = apart[some], rows[some], left[some], right[some]
        at = np.arange(len(rows))
        farthest = np.maximum(apart[at, left], apart[at, right])
        apart[at, left], apart[at, :, left] = farthest, farthest
        apart[at, right], apart[at, :, right] = np.inf, np.inf
        apart[at, left, left] = np.inf
        labels[rows] = np.where(labels[rows] == right[:, None], left[:, None], labels[rows])
    return labels, _sizes(labels)


def _sizes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray((labels[:, :, None] == labels[:, None]).sum(2))


CLUSTERS: dict[str, Callable[[NDArray[np.float64], float], Clusters]] = {
    "radius": neighbourhoods,
    "dbscan": dbscan,
    "agglomerative": agglomerative,
}
