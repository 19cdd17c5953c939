"""Queries against their candidates by local features: shared by `local` and `dense`, which differ in the features."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked
from vgbench.retrieval.rerank.local.extraction import ImageSize, features_of
from vgbench.retrieval.rerank.local.features import Extractor, LocalFeatures
from vgbench.retrieval.rerank.local.matchers import Matcher
from vgbench.retrieval.rerank.local.matches import LocalMatches, PointsOnDisk
from vgbench.retrieval.rerank.local.store import FeatureStore
from vgbench.retrieval.rerank.order import descriptor_term, reordered

DRAWN = 5  # candidates of a query whose matches are kept for the report
NOTHING: NDArray[np.float32] = np.empty((0, 4), np.float32)

Judge = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[float, NDArray[np.bool_]]]
"""(points of the query [m,2], of the candidate [m,2]) -> (score, which matches support it)."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How candidates are verified.

    Attributes:
        extractor: makes the features of images of `size` (see `features_of`).
        keypoints: of an image at most.
        matcher: pairs them.
        judge: scores the pairs.
        second: a matcher for the first `refine` candidates of that order; its scores are added.
        refine: how many.
    """

    extractor: Extractor
    size: ImageSize
    keypoints: int
    matcher: Matcher
    judge: Judge
    second: Matcher | None = None
    refine: int = 0

    def prepared(self, candidates: NDArray[np.int64], context: RerankContext) -> PreparedFeatures:
        """Find the features of the queries and of their candidates int64 [Q,k], or take up those that are kept."""
        return PreparedFeatures(self, *features_of_both(self.extractor, self.size, self.keypoints, candidates, context))


class Verifies(Protocol):
    """What scores one query's candidates at a time: see `Verifier`."""

    def __call__(
        self, query: int, rows: list[int], terms: NDArray[np.float64], deadline: float
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]: ...

    def first(self, query: int, row: int) -> float: ...


class Prepared(Protocol):
    """What a plan has made ready, with the bytes that it keeps of an image; `close` comes last."""

    @property
    def bytes_per_image(self) -> float: ...

    def verifier(self, pool: Executor) -> Verifies: ...

    def close(self) -> None: ...


class AnyPlan(Protocol):
    """How candidates are verified: by features that are kept (`Plan`), or image by image (`image_pairs.ImagePlan`)."""

    def prepared(self, candidates: NDArray[np.int64], context: RerankContext) -> Prepared: ...


def verify(
    name: str,
    plans: Sequence[AnyPlan],
    predictions: Predictions,
    context: RerankContext,
    *,
    weight: float,
    budget_ms: float = 0.0,
) -> Reranked:
    """Order the first candidates of each query by weight * distance - log(1 + score), a logarithm for each plan.

    Equal ones keep their order.

    Args:
        name: of the re-ranker, for the file of matches.
        plans: each scores all candidates in its own way.
        weight: of the descriptor distance, scaled to 0..1 over a query's candidates.
        budget_ms: a query's time, 0 for no limit.
    """
    head = min(context.options.rerank_topk, predictions.indices.shape[1])
    start = time.perf_counter()
    ready = [plan.prepared(predictions.indices[:, :head], context) for plan in plans]
    preparing = time.perf_counter() - start
    costs = weight * descriptor_term(predictions.distances[:, :head])
    drawn = min(DRAWN, head)
    points, ends = PointsOnDisk(context.cache), np.zeros((len(predictions), drawn), np.int64)
    with threads() as pool:
        verifiers = [one.verifier(pool) for one in ready]
        table, queries_in_it = context.all_queries
        for query, candidates in enumerate(predictions.indices[:, :head]):
            deadline = time.perf_counter() + budget_ms / 1e3 if budget_ms else float("inf")
            found = [NOTHING] * head
            for verifier in verifiers:
                costs[query], more = verifier(int(queries_in_it[query]), candidates.tolist(), costs[query], deadline)
                found = [max(pair, key=len) for pair in zip(found, more, strict=True)]
            for place, index in enumerate(np.argsort(costs[query], kind="stable")[:drawn]):
                points.append(found[index])
                ends[query, place] = points.count
    bytes_per_image = sum(one.bytes_per_image for one in ready)
    for one in ready:
        one.close()
    result = reordered(predictions, costs)
    matches = LocalMatches(result.indices[:, :drawn].copy(), ends, points.all()).spread(queries_in_it, len(table))
    path = _matches_path(name, context)
    matches.save(path)
    return Reranked(result, bytes_per_image, preparing, {"local_matches": path})


def scores_of_first(plans: Sequence[AnyPlan], predictions: Predictions, context: RerankContext) -> NDArray[np.float64]:
    """Return the score of each query's first candidate by each plan's first matcher, summed over plans: float64 [Q]."""
    pairs = list(zip(context.all_queries[1].tolist(), predictions.indices[:, 0].tolist(), strict=True))
    scores = np.zeros(len(predictions))
    for plan in plans:
        ready = plan.prepared(predictions.indices[:, :1], context)
        with threads() as pool:
            verifier = ready.verifier(pool)
            scores += [verifier.first(query, best) for query, best in pairs]
        ready.close()
    return scores


@dataclass(frozen=True, eq=False)
class PreparedFeatures:
    """The features of all images that a plan compares."""

    plan: Plan
    queries: FeatureStore
    database: FeatureStore

    @property
    def bytes_per_image(self) -> float:
        """What is kept of a database image."""
        return self.database.bytes_per_image

    def verifier(self, pool: Executor) -> Verifier:
        """Return what scores candidates, in the threads of a pool."""
        return Verifier(self.plan, self.queries, self.database, pool)

    def close(self) -> None:
        self.queries.close()
        self.database.close()


@dataclass(frozen=True, eq=False)
class Verifier:
    """Scores one query's candidates at a time.

    Attributes:
        plan: how.
        queries, database: the features of all of them.
        pool: as `threads` gives it.
    """

    plan: Plan
    queries: FeatureStore
    database: FeatureStore
    pool: Executor

    def __call__(
        self, query: int, rows: list[int], terms: NDArray[np.float64], deadline: float
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]:
        """Return the costs of one query's candidates and their supporting matches, as `LocalMatches.points`.

        Args:
            query: its row.
            rows: the candidates', likeliest first.
            terms: float64 [K], what the candidates cost so far.
            deadline: when to stop, on the clock of `time.perf_counter`; infinite for never.
        """
        plan = self.plan
        features = self.queries.read(query)
        scores = np.zeros(len(rows))
        found = [NOTHING] * len(rows)
        # With a limit to keep, no more at once than run at once.
        step = torch.get_num_threads() if deadline < float("inf") else len(rows)
        for start in range(0, len(rows), step):
            if time.perf_counter() >= deadline:
                break
            part = range(start, min(start + step, len(rows)))
            for index, (score, points) in zip(part, self._judged(plan.matcher, features, rows, part), strict=True):
                scores[index], found[index] = score, points
        costs = terms - np.log1p(scores)
        if plan.second is not None:
            # A network takes candidates one by one, so the limit is looked at between them.
            for index in np.argsort(costs, kind="stable")[: plan.refine].tolist():
                if time.perf_counter() >= deadline:
                    break
                [(score, points)] = self._judged(plan.second, features, rows, [index])
                scores[index] += score
                found[index] = points if len(points) > len(found[index]) else found[index]
            costs = terms - np.log1p(scores)
        return costs, found

    def first(self, query: int, row: int) -> float:
        """Return the score of one candidate by the first matcher."""
        [(score, _)] = self._judged(self.plan.matcher, self.queries.read(query), [row], [0])
        return score

    def _judged(
        self, matcher: Matcher, query: LocalFeatures, rows: list[int], indices: range | list[int]
    ) -> Iterator[tuple[float, NDArray[np.float32]]]:
        candidates = [self.database.read(rows[index]) for index in indices]
        matches = matcher(query, candidates, self.pool)
        return self.pool.map(lambda pair: self._scored(query, *pair), zip(candidates, matches, strict=True))

    def _scored(
        self, query: LocalFeatures, candidate: LocalFeatures, pairs: NDArray[np.int64]
    ) -> tuple[float, NDArray[np.float32]]:
        left, right = query.keypoints[pairs[:, 0]], candidate.keypoints[pairs[:, 1]]
        score, good = self.plan.judge(left, right)
        shares = (left[good] / np.array(query.size), right[good] / np.array(candidate.size))
        return score, np.concatenate(shares, axis=1).astype(np.float32)


def features_of_both(
    extractor: Extractor, size: ImageSize, keypoints: int, candidates: NDArray[np.int64], context: RerankContext
) -> tuple[FeatureStore, FeatureStore]:
    """Return the features of the queries and of their candidates int64 [Q,k], made or taken up (see `features_of`)."""
    split = context.split
    tables = context.all_queries, (split.database, candidates.reshape(-1))
    queries, database = (
        features_of(
            table,
            rows,
            extractor,
            size,
            keypoints,
            context.cache / f"{split.root.name}_{split.name}_{table.root.name}",
            context.inference,
        )
        for table, rows in tables
    )
    return queries, database


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """A pool of as many threads as torch has; OpenCV and NumPy let go of the interpreter, and work alone in each."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="verify") as pool,
        ):
            yield pool
    finally:
        cv2.setNumThreads(before)


def _matches_path(name: str, context: RerankContext) -> Path:
    options = {key: str(value) for key, value in vars(context.options).items() if value is not None}
    facts = [name, context.database.fingerprint, context.queries.fingerprint, options]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return context.cache / f"{context.split.root.name}_{context.split.queries.root.name}_matches-{digest}.h5"
