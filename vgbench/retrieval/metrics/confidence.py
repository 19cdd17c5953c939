"""How likely the best match is right: logistic regression on its distance and ratio, and how well that holds.

Source: J. Platt, "Probabilistic outputs for support vector machines" (1999), whose softened targets keep the weights
finite where every match is right; expected calibration error as in C. Guo et al., "On calibration of modern neural
networks" (2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.data.positives import Neighbours
from vgbench.data.protocol import Split
from vgbench.retrieval.metrics.acceptance import distance_and_ratio
from vgbench.retrieval.metrics.recall import hits
from vgbench.retrieval.predictions import Predictions

BINS = 10
FOLDS = 10
_RIDGE, _STEPS = 1.0, 50


@dataclass(frozen=True)
class Confidence:
    """A fitted model: probability = sigmoid(bias + sum of weight * (feature - mean) / scale).

    Attributes:
        mean, scale, weights: of the features (distance, ratio).
        bias: of the sum.
        queries: how many it was fitted on.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    queries: int

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities float64 [Q] that best matches with `features` float64 [Q,2] are right."""
        scaled = (features - np.array(self.mean)) / np.array(self.scale)
        return _sigmoid(scaled @ np.array(self.weights) + self.bias)

    def as_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_json(content: dict[str, Any]) -> Confidence:
        """Read what `as_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        mean, scale, weights = (tuple(map(float, content[name])) for name in ("mean", "scale", "weights"))
        bias = float(content["bias"])
        if not len(mean) == len(scale) == len(weights) or not np.isfinite([*mean, *scale, *weights, bias]).all():
            raise ValueError("numbers are missing, or not finite")
        return Confidence(mean, scale, weights, bias, int(content["queries"]))


def fit_confidence(features: NDArray[np.float64], right: NDArray[np.bool_]) -> Confidence:
    """Fit the model by Newton's method, with a ridge of one on the weights of the scaled features.

    Args:
        features: float64 [Q,F], Q >= 1.
        right: bool [Q], whether the best match is right.
    """
    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    hits = int(right.sum())
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2))
    ridge = np.diag([_RIDGE] * features.shape[1] + [0.0])
    beta = np.zeros(x.shape[1])
    beta[-1] = np.log(target.mean() / (1 - target.mean()))
    # The importing of a library for this would take longer than all of it.
    for _ in range(_STEPS):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (p - target) + ridge @ beta
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge + 1e-9 * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        beta -= step / max(1.0, float(np.abs(step).max()) / 4)  # a far start must not overshoot
        if np.abs(step).max() < 1e-10:
            break
    return Confidence(_tuple(mean), _tuple(scale), _tuple(beta[:-1]), float(beta[-1]), len(right))


def cross_validated(features: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each query's probability by a model that was fitted without it, float64 [Q].

    Ten blocks of queries that follow each other, and so often lie together, take turns in being left out.
    """
    count = len(right)
    if count < 2:
        return np.full(count, np.nan)
    fold = np.arange(count) * min(FOLDS, count) // count
    out = np.empty(count)
    for number in np.unique(fold):
        held = fold == number
        out[held] = fit_confidence(features[~held], right[~held])(features[held])
    return out


def calibration(probability: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Compare probabilities [Q] with what came true [Q], in ten bins of equal width, as results.json holds it.

    Returns:
        `expected_calibration_error` (percent: the mean over queries of how far a bin's mean confidence is from its
        share of right matches) and `bins`, of those that hold queries: `queries`, `confidence`, `right` (percent).
    """
    bin_of = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    bins, error = [], 0.0
    for number in range(BINS):
        inside = bin_of == number
        if inside.any():
            said, was = float(probability[inside].mean()), float(right[inside].mean())
            error += int(inside.sum()) / len(right) * abs(said - was)
            bins.append(
                {"queries": int(inside.sum()), "confidence": round(100 * said, 2), "right": round(100 * was, 2)}
            )
    return {"expected_calibration_error": round(100 * error, 3), "bins": bins}


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _tuple(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@dataclass(frozen=True)
class Calibrated:
    """A model of the confidence and where it comes from, such as "the val split"."""

    model: Confidence
    source: str


def learn_confidence(
    split: Split, predictions: Predictions, neighbours: Mapping[float, Neighbours]
) -> Confidence | None:
    """Fit the confidence of best matches on queries whose coordinates are known; None without queries."""
    radius, positives = next(iter(neighbours.items()))
    if not len(predictions):
        return None
    right = hits(predictions.indices[:, :1], positives)[:, 0]
    return fit_confidence(distance_and_ratio(predictions, split.database.utm, radius), right)
