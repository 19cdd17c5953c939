"""The chain of re-rankers: what each is given, and what each is reported by."""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from vgbench.errors import UserError, in_short
from vgbench.models.network import Network
from vgbench.retrieval.metrics.recall import NeighbourRows, milliseconds_text, recall_table
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank import RERANKERS
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.learned import FunctionReranker, adapted
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RerankStep:
    """What one re-ranker of the chain did.

    Attributes:
        name: as in `--rerank`.
        before, after: threshold in metres -> N -> percent.
        ms_per_query: milliseconds per re-ranked query, with what is kept for the next run already there.
        preparing_s: seconds spent on making that.
        bytes_per_image: what is kept of a database image beside its descriptor.
        files: what was written for a report, name -> path.
        queries: how many were re-ranked.
    """

    name: str
    before: Mapping[float, Mapping[int, float]]
    after: Mapping[float, Mapping[int, float]]
    ms_per_query: float
    preparing_s: float
    bytes_per_image: float
    files: Mapping[str, Path]
    queries: int

    def as_json(self) -> dict[str, Any]:
        """What results.json holds of it."""
        return {
            "name": self.name,
            "before": _recalls_json(self.before),
            "after": _recalls_json(self.after),
            "ms_per_query": round(self.ms_per_query, 3),
            "preparing_s": round(self.preparing_s, 3),
            "bytes_per_image": round(self.bytes_per_image, 1),
            "queries": self.queries,
            "files": {name: str(path) for name, path in self.files.items()},
        }


def check_rerankers(network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
    """Raise UserError for a re-ranker that cannot run, now and not after hours of extraction."""
    for _, method in methods_of(options):
        method.check(network, options, runtime)


def predictions_needed(recall_values: Sequence[int], options: RerankOptions) -> int:
    """How many predictions per query the search must return."""
    return max(*recall_values, options.rerank_topk if options.names else 1)


def rerank(
    predictions: Predictions,
    context: RerankContext,
    neighbours: Mapping[float, NeighbourRows],
    recall_values: Sequence[int],
    chosen: NDArray[np.int64] | None = None,
    methods: Sequence[tuple[str, Reranker]] | None = None,
) -> tuple[Predictions, list[RerankStep]]:
    """Run the chain of `context.options.rerank`; return what it ends with and what each step did.

    Args:
        chosen: int64 [n], ascending, the queries that are re-ranked; the others keep their predictions and distances.
            None for all. Recalls are of all queries either way.
        methods: other re-rankers than those of `--rerank`, with their names.

    Raises:
        UserError: a re-ranker is not known, cannot run here, or returned what are not predictions.
    """
    steps: list[RerankStep] = []
    before = recall_table(predictions.indices, neighbours, recall_values)
    _check_rows(predictions, context)
    part = predictions
    if chosen is not None:
        part, context = predictions.rows(chosen), context.of_queries(chosen)
    with contextlib.ExitStack() as opened:
        for name, method in methods_of(context.options) if methods is None else methods:
            start = time.perf_counter()
            done = _done(name, method, part, context)
            spent = time.perf_counter() - start
            part = done.predictions
            predictions = part if chosen is None else predictions.with_rows(chosen, part)
            after = recall_table(predictions.indices, neighbours, recall_values)
            steps.append(_step(name, done, spent, before, after))
            LOG.info("%s", step_line(steps[-1]))
            before = after
            given, context = context, done.context or context
            if context.database is not given.database:
                opened.callback(context.database.close)
    return predictions, steps


def _done(name: str, method: Reranker, predictions: Predictions, context: RerankContext) -> Reranked:
    """Return what a re-ranker made of predictions, checked; the same where there are none."""
    if not len(predictions):
        return Reranked(predictions)
    done = _called(name, method, predictions, context)
    _check_result(name, done.predictions, predictions)
    return done


def _called(name: str, method: Reranker, predictions: Predictions, context: RerankContext) -> Reranked:
    try:
        return method(predictions, context)
    except UserError:
        raise
    except Exception as error:
        if ":" not in name:
            raise
        LOG.debug("%s", name, exc_info=True)  # somebody else's code: a line here, the rest in debug.log
        raise UserError(
            f"--rerank {name}: fails ({in_short(error)}). "
            "Expected a function of a query's path and its candidates' paths, or a class as in vgbench/retrieval/rerank"
        ) from error


def _step(
    name: str,
    done: Reranked,
    seconds: float,
    before: Mapping[float, Mapping[int, float]],
    after: Mapping[float, Mapping[int, float]],
) -> RerankStep:
    return RerankStep(
        name=name,
        before=before,
        after=after,
        ms_per_query=1e3 * max(seconds - done.preparing_s, 0.0) / max(len(done.predictions), 1),
        preparing_s=float(done.preparing_s),
        bytes_per_image=float(done.bytes_per_image),
        files=dict(done.files),
        queries=len(done.predictions),
    )


def keywords_of(options: RerankOptions) -> dict[str, dict[str, Any]]:
    """Return what `--rerank_args` says to each re-ranker of the chain, by name; raises UserError."""
    return RERANKERS.keywords_of_each("rerank", options.names, options.rerank_args)


def methods_of(options: RerankOptions) -> list[tuple[str, Reranker]]:
    """Return the re-rankers of `--rerank` with their names, made; raises UserError as `make_reranker`."""
    keywords = keywords_of(options)
    return [(name, make_reranker(name, keywords[name])) for name in options.names]


def make_reranker(name: str, keywords: Mapping[str, Any] | None = None) -> Reranker:
    """Return what a name stands for, ready to be called; a plain function scores (query, candidates, its keywords).

    Raises:
        UserError: the name is not known, or stands for neither a class nor a function.
    """
    target = RERANKERS.resolve(name)
    keywords = dict(keywords or {})
    if inspect.isclass(target):
        try:
            return adapted(name, target(**keywords))
        except TypeError as error:
            raise UserError(
                f"--rerank {name}: {error}. Expected a class that is made of keywords alone; see --rerank_args"
            ) from error
    if callable(target):
        return FunctionReranker(name, partial(target, **keywords))
    raise UserError(f"--rerank {name}: is neither a class nor a function. Expected one of them; see vgbench/retrieval")


def step_line(step: RerankStep) -> str:
    """One line on a step, at the first threshold."""
    before, after = (next(iter(table.values()), {}) for table in (step.before, step.after))
    recalls = " ".join(f"R@{n} {before[n]:.1f} -> {after[n]:.1f}" for n in after) or "no recalls"
    cost = f"{milliseconds_text(step.ms_per_query)} ms per query, {step.bytes_per_image:,.0f} bytes per image"
    return f"{step.name}: {recalls}; {cost}"


def steps_table(steps: Sequence[RerankStep]) -> str:
    """A markdown table of the chain, at the first threshold: recalls after each step, and its cost."""
    values = list(next(iter(steps[0].before.values())))
    first = next(iter(steps[0].before.values()))
    rows: list[list[str]] = [["search", *(f"{first[n]:.1f}" for n in values), "", ""]]
    for step in steps:
        after = next(iter(step.after.values()))
        recalls = [f"{after[n]:.1f}" for n in values]
        rows.append([step.name, *recalls, milliseconds_text(step.ms_per_query), f"{step.bytes_per_image:,.0f}"])
    headers = ["after", *(f"R@{n}" for n in values), "ms per query", "bytes per image"]
    return str(
        tabulate(
            rows,
            headers=headers,
            tablefmt="pipe",
            colalign=["left", *["right"] * (len(headers) - 1)],
            disable_numparse=True,
        )
    )


def _recalls_json(table: Mapping[float, Mapping[int, float]]) -> dict[str, dict[str, float]]:
    return {f"{t:g}": {str(n): round(percent, 3) for n, percent in row.items()} for t, row in table.items()}


def _check_rows(predictions: Predictions, context: RerankContext) -> None:
    if len(predictions) != len(context.split.queries):
        raise UserError(
            f"{context.split.queries.root}: predictions for {len(predictions)} of {len(context.split.queries)} "
            "queries. Expected one list per query; leave --rerank out, or use --test_method hard_resize"
        )


def _check_result(name: str, found: Any, before: Predictions) -> None:
    if not isinstance(found, Predictions) or found.indices.shape != before.indices.shape:
        raise UserError(f"--rerank {name}: did not return predictions {list(before.indices.shape)} as it was given")
    if not (np.diff(found.distances, axis=1) >= 0).all():
        raise UserError(f"--rerank {name}: its distances fall along a row, or are not numbers. Expected best first")
