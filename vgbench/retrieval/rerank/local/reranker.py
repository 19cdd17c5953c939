"""local: candidates whose local features agree with the query's on one geometry come first."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.local.extraction import features_of
from vgbench.retrieval.rerank.local.features import LocalFeatures, make_extractor
from vgbench.retrieval.rerank.local.geometry import inliers
from vgbench.retrieval.rerank.local.matchers import Matcher, make_matcher
from vgbench.retrieval.rerank.local.matches import LocalMatches
from vgbench.retrieval.rerank.local.store import FeatureStore
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.rerank.order import descriptor_term, reordered

if TYPE_CHECKING:
    from vgbench.retrieval.rerank.chain import RerankContext

DRAWN = 5  # candidates of a query whose matches are kept for the report
NOTHING: NDArray[np.float32] = np.empty((0, 4), np.float32)


class LocalReranker:
    """Matches local features of the query and each candidate, fits one geometry with MAGSAC++ and counts inliers.

    The cost of a candidate is minus log(1 + inliers), plus `--local_weight` times its descriptor distance scaled to
    0..1 over the query's candidates. Equal costs keep their order, so where nothing can be verified, it stays.
    With `--local_budget`, a query's candidates are verified in their order until its time is spent; those left count
    as having no inliers.

    Attributes:
        bytes_per_image: of the features, for those database images that were needed.
        preparing_s: seconds that finding features took.
        files: "local_matches": see `LocalMatches`.
    """

    bytes_per_image = 0.0
    preparing_s = 0.0

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}

    def __call__(self, predictions: Predictions, context: RerankContext) -> Predictions:
        options = context.options
        head = min(options.rerank_topk, predictions.indices.shape[1])
        matcher = make_matcher(options.local_matcher, options.local_features, options.local_ratio, context.runtime)
        start = time.perf_counter()
        queries, database = self._features(predictions.indices[:, :head], context)
        self.preparing_s = time.perf_counter() - start
        self.bytes_per_image = database.bytes_per_image
        verify = _Verifier(queries, database, matcher, options)
        counts = np.zeros((len(predictions), head))
        points: list[list[NDArray[np.float32]]] = []
        with _threads() as pool:
            for query, rows in enumerate(predictions.indices[:, :head].tolist()):
                found = verify(query, rows, pool)
                counts[query] = [len(one) for one in found]
                points.append(found)
        queries.close()
        database.close()
        found_order = _costs(counts, predictions.distances[:, :head], options.local_weight)
        result = reordered(predictions, found_order)
        self.files = {"local_matches": _save_matches(points, found_order, result, context)}
        return result

    @staticmethod
    def _features(candidates: NDArray[np.int64], context: RerankContext) -> tuple[FeatureStore, FeatureStore]:
        options, split = context.options, context.split
        make = make_extractor(options.local_features, options.local_keypoints, context.runtime)
        queries, database = (
            features_of(
                table,
                rows,
                make,
                name=f"{split.root.name}_{split.name}_{table.root.name}",
                side=options.local_size,
                keypoints=options.local_keypoints,
                folder=context.cache,
                runtime=context.runtime,
                num_workers=context.num_workers,
            )
            for table, rows in (
                (split.queries, np.arange(len(split.queries))),
                (split.database, candidates.reshape(-1)),
            )
        )
        return queries, database


@dataclass(frozen=True)
class _Verifier:
    queries: FeatureStore
    database: FeatureStore
    matcher: Matcher
    options: RerankOptions

    def __call__(self, query: int, rows: list[int], pool: Executor) -> list[NDArray[np.float32]]:
        """Return the inlier matches of one query with each candidate, as `LocalMatches.points`."""
        features = self.queries.read(query)
        budget = self.options.local_budget
        if not budget:
            return self._verified(features, rows, pool)
        deadline = time.perf_counter() + budget / 1e3
        found: list[NDArray[np.float32]] = []
        step = torch.get_num_threads()
        while len(found) < len(rows) and time.perf_counter() < deadline:
            found += self._verified(features, rows[len(found) : len(found) + step], pool)
        return found + [NOTHING] * (len(rows) - len(found))

    def _verified(self, query: LocalFeatures, rows: list[int], pool: Executor) -> list[NDArray[np.float32]]:
        candidates = [self.database.read(row) for row in rows]
        matches = self.matcher(query, candidates, pool)
        return list(pool.map(lambda pair: self._inliers(query, *pair), zip(candidates, matches, strict=True)))

    def _inliers(self, query: LocalFeatures, candidate: LocalFeatures, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
        left, right = query.keypoints[pairs[:, 0]], candidate.keypoints[pairs[:, 1]]
        options = self.options
        good = inliers(left, right, options.local_model, options.local_threshold, options.local_iterations)
        shares = (left[good] / np.array(query.size), right[good] / np.array(candidate.size))
        return np.concatenate(shares, axis=1).astype(np.float32)


def _costs(counts: NDArray[np.float64], distances: NDArray[np.float32], weight: float) -> NDArray[np.float64]:
    return np.asarray(weight * descriptor_term(distances) - np.log1p(counts))


def _threads() -> ThreadPoolExecutor:
    """OpenCV and NumPy let go of the interpreter, so threads are enough; each of them works alone."""
    cv2.setNumThreads(1)
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="verify")


def _save_matches(
    points: list[list[NDArray[np.float32]]], costs: NDArray[np.float64], result: Predictions, context: RerankContext
) -> Path:
    order = np.argsort(costs, axis=1, kind="stable")[:, :DRAWN].tolist()
    kept = [points[query][place] for query, places in enumerate(order) for place in places]
    drawn = min(DRAWN, costs.shape[1])
    matches = LocalMatches(
        result.indices[:, :drawn].copy(),
        np.cumsum([len(one) for one in kept], dtype=np.int64).reshape(-1, drawn),
        np.concatenate([NOTHING, *kept]),
    )
    facts = [context.database.fingerprint, context.queries.fingerprint, _local_options(context.options)]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    path = context.cache / f"{context.split.root.name}_{context.split.queries.root.name}_matches-{name}.h5"
    matches.save(path)
    return path


def _local_options(options: RerankOptions) -> Iterable[str]:
    names = [name for name in vars(options) if name.startswith(("local_", "rerank"))]
    return [f"{name}={getattr(options, name)}" for name in sorted(names)]
