"""Query expansion and search as plain formulas, for the tests of re-rankers that build on them."""

from __future__ import annotations

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def averaged(own: np.ndarray, others: np.ndarray, alpha: float) -> np.ndarray:
    """Unit vectors, one at a time, in float64."""
    rows = []
    for vector, near in zip(own.astype(np.float64), others.astype(np.float64), strict=True):
        rows.append(vector + sum(max(vector @ other, 0) ** alpha * other for other in near))
    return unit(np.array(rows))


def nearest(queries: np.ndarray, database: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - database[None], axis=-1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)
