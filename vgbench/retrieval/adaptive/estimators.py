"""How sure a search is of each best match: float64 [Q], the larger the surer.

Sources: "To Match or Not to Match" (CVPR workshops 2025), which compares the distance (L2), the ratio of the first two
distances (PA) and the inliers of the first candidate; M. Zaffar et al., "On the Estimation of Image-matching
Uncertainty in Visual Place Recognition" (CVPR 2024), for the spatial uncertainty (SUE).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.randomness import numpy_stream
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext

SUE_NEIGHBOURS = 10


def distance(predictions: Predictions, context: RerankContext) -> NDArray[np.float64]:
    """Return 1 - d1^2 / 2, the cosine of the query and its best match where descriptors have unit length."""
    return 1 - predictions.distances[:, 0].astype(np.float64) ** 2 / 2


def pa(predictions: Predictions, context: RerankContext) -> NDArray[np.float64]:
    """Return 1 - d1 / d2: 0 where the second prediction is as near as the first, 1 where the first is the query."""
    first, second = predictions.distances[:, 0], predictions.distances[:, min(1, predictions.distances.shape[1] - 1)]
    ratio = np.divide(first, second, out=np.ones(len(first), np.float64), where=second > 0)
    return 1 - ratio


def sue(
    predictions: Predictions,
    context: RerankContext,
    *,
    neighbours: int = SUE_NEIGHBOURS,
    slope: float = 350.0,
    clip: float = 500.0,
) -> NDArray[np.float64]:
    """Return 1 - s / `clip`, s the standard deviation in metres of where the first predictions were taken.

    A prediction at distance d weighs exp(-slope d); deviations from the weighted mean count at most `clip` metres. NaN
    where one of the predictions has no coordinates.

    Args:
        neighbours: predictions that count.
        slope: how fast weights fall.
        clip: metres.
    """
    near = predictions.distances[:, :neighbours].astype(np.float64)
    at = context.split.database.utm[predictions.indices[:, :neighbours]]
    # Weights are relative: to count from the nearest keeps them from vanishing.
    weight = np.exp(-slope * (near - near[:, :1]))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = (weight[:, :, None] * at).sum(axis=1, keepdims=True)
    away = np.minimum(np.hypot(*np.moveaxis(at - mean, 2, 0)), clip)
    return np.asarray(1 - np.sqrt((weight * away**2).sum(axis=1)) / clip)


def inliers(predictions: Predictions, context: RerankContext) -> NDArray[np.float64]:
    """Return how many matches of local features with the first candidate fit one geometry, as `--local_...` say.

    Of several `--local_features`, their sum.

    Raises:
        UserError: features and matcher cannot be had or differ.
    """
    from vgbench.retrieval.rerank.local.reranker import plans_of  # the others need no OpenCV
    from vgbench.retrieval.rerank.local.verification import scores_of_first

    return scores_of_first(plans_of(context.options, context.runtime), predictions, context)


def random(predictions: Predictions, context: RerankContext, *, seed: int = 0) -> NDArray[np.float64]:
    """Return a number from 0 to 1 for each query that knows nothing of it: what the others are measured against."""
    return numpy_stream(seed, "uncertainty").random(len(predictions))
