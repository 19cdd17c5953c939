"""A user's own scores: any function of a query and its candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vgbench.errors import UserError, in_short
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.order import reordered

if TYPE_CHECKING:
    from vgbench.retrieval.rerank.base import RerankContext

Score = Callable[[Path, Sequence[Path]], Any]


class FunctionReranker:
    """Orders the candidates by the scores of a function, largest first; equal ones keep their order.

    `score(query, candidates)` takes the path of a query's image and those of its candidates, best first, and returns
    one number a candidate (anything NumPy reads as such). For the descriptors or the network, write a class instead.

    Args:
        name: how the user named it, for messages.
        score: the function.
    """

    bytes_per_image = 0.0

    def __init__(self, name: str, score: Score) -> None:
        self._name, self._score = name, score

    def __call__(self, predictions: Predictions, context: RerankContext) -> Predictions:
        head = min(context.options.rerank_topk, predictions.indices.shape[1])
        costs = np.empty((len(predictions), head))
        for query, rows in enumerate(predictions.indices[:, :head]):
            paths = [context.split.database.path(int(row)) for row in rows]
            try:
                scores = np.asarray(self._score(context.split.queries.path(query), paths), dtype=np.float64)
            except Exception as error:  # somebody else's code
                raise UserError(
                    f"--rerank {self._name}: fails on {context.split.queries.path(query)} "
                    f"({in_short(error)}). Expected a "
                    "function of a query's path and a list of its candidates' paths that returns a score each"
                ) from error
            if scores.shape != (head,) or not np.isfinite(scores).all():
                raise UserError(
                    f"--rerank {self._name}: returned {list(scores.shape)} scores for {head} candidates of "
                    f"{context.split.queries.path(query)}. Expected one finite number a candidate"
                )
            costs[query] = -scores
        return reordered(predictions, costs)
