"""A user's own re-ranking: a function of a query and its candidates, or a class that knows nothing of ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vgbench.errors import UserError, in_short
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.order import reordered

Score = Callable[[Path, Sequence[Path]], Any]


class FunctionReranker(Reranker):
    """Orders the candidates by the scores of a function, largest first; equal ones keep their order.

    `score(query, candidates)` takes the path of a query's image and those of its candidates, best first, and returns
    one number per candidate (anything NumPy reads as such). For the descriptors or the network, write a class instead.

    Args:
        name: how the user named it, for messages.
        score: the function.
    """

    def __init__(self, name: str, score: Score) -> None:
        self._name, self._score = name, score

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
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
                    f"{context.split.queries.path(query)}. Expected one finite number per candidate"
                )
            costs[query] = -scores
        return Reranked(reordered(predictions, costs))


class _Adapted(Reranker):
    """A class of somebody's that returns predictions, and says as attributes what a `Reranked` holds."""

    def __init__(self, name: str, made: Any) -> None:
        self._name, self._made = name, made
        if hasattr(made, "check"):
            self.check = made.check  # type: ignore[method-assign]

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        found = self._made(predictions, context)
        if isinstance(found, Reranked):
            return found
        said = {name: getattr(self._made, name) for name in _SAID if hasattr(self._made, name)}
        return Reranked(found, **said)


_SAID = tuple(field.name for field in dataclasses.fields(Reranked) if field.name != "predictions")


def adapted(name: str, made: Any) -> Reranker:
    """Return what a class made as a `Reranker`.

    Args:
        name: how the user named it, for messages.
        made: a `Reranker`, or anything that is called as one and returns `Reranked` or plain `Predictions`; then its
            attributes `bytes_per_image`, `preparing_s`, `files` and `context` count, and its method `check`.

    Raises:
        UserError: it cannot be called.
    """
    if isinstance(made, Reranker):
        return made
    if not callable(made):
        raise UserError(
            f"--rerank {name}: {type(made).__name__} has no __call__. Expected a class with "
            "__call__(self, predictions, context) that returns Reranked; see docs/reranking.md"
        )
    return _Adapted(name, made)
