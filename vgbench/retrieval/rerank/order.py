"""New orders of predictions, whose distances never fall along a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.retrieval.predictions import Predictions


def reordered(predictions: Predictions, costs: NDArray[np.floating[Any]]) -> Predictions:
    """Order the first predictions by new costs and keep the rest behind them.

    Ties keep their order. The distances become the costs; those of the rest go on from the largest cost in their own
    steps.

    Args:
        costs: [Q,k], k at most K, finite, the smaller the better.
    """
    head = costs.shape[1]
    order = np.argsort(costs, axis=1, kind="stable")
    indices = predictions.indices.copy()
    distances = predictions.distances.astype(np.float64)
    rest = distances[:, head:] - distances[:, head - 1 : head]
    indices[:, :head] = np.take_along_axis(indices[:, :head], order, axis=1)
    distances[:, :head] = np.take_along_axis(costs, order, axis=1)
    distances[:, head:] = distances[:, head - 1 : head] + rest
    return Predictions(indices, distances.astype(np.float32))


def permuted(predictions: Predictions, order: NDArray[np.int64]) -> Predictions:
    """Put the first predictions into another order.

    The distances stay those of the candidates, raised to the largest before them where they would fall.

    Args:
        order: int64 [Q,k], k at most K, positions within the row.
    """
    head = order.shape[1]
    indices, distances = predictions.indices.copy(), predictions.distances.copy()
    indices[:, :head] = np.take_along_axis(indices[:, :head], order, axis=1)
    distances[:, :head] = np.take_along_axis(distances[:, :head], order, axis=1)
    return Predictions(indices, np.maximum.accumulate(distances, axis=1))


def descriptor_term(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scale each row of distances [Q,k], best first, to 0 for the first and 1 for the last; 0 where all are equal."""
    values = distances.astype(np.float64)
    span = values[:, -1:] - values[:, :1]
    return np.where(span > 0, (values - values[:, :1]) / np.where(span > 0, span, 1), 0.0)
