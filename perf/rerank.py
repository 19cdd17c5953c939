"""Re-ranking beside plain forms: geometric verification of 20 candidates, and k-reciprocal encoding.

Verification runs on made-up features as XFeat's are (64 dimensions, unit length): the first half of the candidates
share 300 points with their query under a shift with noise, the others none. The reference reads nothing, matches one
pair after the other with torch as XFeat's own package does, and fits the same model with the same MAGSAC++.

k-reciprocal encoding runs beside the published formulas on full matrices; at 100,000 images, where those would take
80 GB a matrix, beside faiss's flat search for the neighbours alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perf.measure import Pair, in_own_process, in_turn, pair_of, peak_mb, seconds
from vgbench.data.protocol import Split
from vgbench.data.table import TableBuilder
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.extraction.writer import write_descriptors
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.kreciprocal import KReciprocalReranker
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.retrieval.rerank.local.geometry import inliers
from vgbench.retrieval.rerank.local.nearest import NearestMatcher
from vgbench.retrieval.rerank.local.reranker import counted
from vgbench.retrieval.rerank.local.store import FeatureStore
from vgbench.retrieval.rerank.local.verification import Plan, Verifier, threads
from vgbench.retrieval.rerank.local.xfeat import XFeatExtractor
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.searching.exact import search
from vgbench.runtime import Inference, Runtime

KEYPOINTS, SHARED, SIDE = 1024, 300, 480
K1, K2, LAMBDA = 20, 6, 0.3


def measure_local(queries: int, candidates: int, rounds: int) -> Pair:
    """Milliseconds a query of `--rerank local` at its defaults, features kept, beside one pair after the other."""
    options, runtime = RerankOptions(), Runtime()
    features = _features(queries, candidates)
    with tempfile.TemporaryDirectory() as name:
        stores = [FeatureStore(Path(name) / part, 64, binary=False) for part in ("queries", "database")]
        stores[0].append(range(queries), [own for own, _ in features])
        stores[1].append(range(queries * candidates), [one for _, others in features for one in others])
        plan = Plan(
            extractor=XFeatExtractor(KEYPOINTS, runtime), size=0, keypoints=KEYPOINTS,
            matcher=NearestMatcher(1.0, runtime), judge=lambda a, b: counted(a, b, options),
        )  # fmt: skip
        terms = np.linspace(0, options.local_weight, candidates)

        def ours() -> None:
            with threads() as pool:
                verifier = Verifier(plan, stores[0], stores[1], pool)
                for query in range(queries):
                    verifier(query, list(range(query * candidates, (query + 1) * candidates)), terms, float("inf"))

        def reference() -> None:
            for own, others in features:
                for one in others:
                    _one_pair(own, one, options)

        times = in_turn(ours, reference, rounds)
        for store in stores:
            store.close()
    mine, theirs = ([1e3 * second / queries for second in side] for side in times)
    return pair_of(f"local re-ranking, {candidates} candidates x {KEYPOINTS} keypoints", "ms per query", mine, theirs)


def _features(queries: int, candidates: int) -> list[tuple[LocalFeatures, list[LocalFeatures]]]:
    generator = torch.Generator().manual_seed(0)

    def unit(count: int) -> Tensor:
        return torch.nn.functional.normalize(torch.randn(count, 64, generator=generator), dim=1)

    def made(points: Tensor, vectors: Tensor) -> LocalFeatures:
        return LocalFeatures(points.clamp(0, SIDE).numpy(), vectors.numpy(), (SIDE, SIDE))

    found = []
    for _ in range(queries):
        points, vectors = SIDE * torch.rand(KEYPOINTS, 2, generator=generator), unit(KEYPOINTS)
        others = []
        for number in range(candidates):
            theirs, described = SIDE * torch.rand(KEYPOINTS, 2, generator=generator), unit(KEYPOINTS)
            if number < candidates // 2:
                theirs[:SHARED] = points[:SHARED] + 10 + 0.5 * torch.randn(SHARED, 2, generator=generator)
                mixed = vectors[:SHARED] + 0.6 * described[:SHARED]
                described[:SHARED] = torch.nn.functional.normalize(mixed, dim=1)
            others.append(made(theirs, described))
        found.append((made(points, vectors), others))
    return found


def _one_pair(query: LocalFeatures, candidate: LocalFeatures, options: RerankOptions) -> int:
    left, right = torch.from_numpy(query.vectors()), torch.from_numpy(candidate.vectors())
    nearest = (left @ right.T).max(dim=1).indices
    back = (right @ left.T).max(dim=1).indices
    rows = (back[nearest] == torch.arange(len(left))).nonzero()[:, 0].numpy()
    a, b = query.keypoints[rows], candidate.keypoints[nearest.numpy()[rows]]
    return int(inliers(a, b, options.local_model, options.local_threshold, options.local_iterations).sum())


def measure_kreciprocal(database: int, queries: int, dim: int, who: str, rounds: int) -> Pair:
    """Seconds and memory of `--rerank kreciprocal` beside `who`: "dense" formulas, or "faiss" for the lists alone."""
    with tempfile.TemporaryDirectory() as folder:
        for seed, (name, rows) in enumerate((("database", database), ("queries", queries))):
            _write(Path(folder) / f"{name}.h5", rows, dim, seed)
        found = [
            in_own_process("perf.rerank", {"who": side, "folder": folder, "rounds": rounds}) for side in ("ours", who)
        ]
    reference = {"dense": "full matrices", "faiss": "faiss flat, neighbours alone"}[who]
    return pair_of(
        f"k-reciprocal, {queries} queries, {database} x {dim}, beside {reference}", "seconds",
        found[0]["seconds"], found[1]["seconds"], memory=(found[0]["peak_mb"], found[1]["peak_mb"]),
    )  # fmt: skip


def _write(path: Path, rows: int, dim: int, seed: int) -> None:
    """Unit vectors about 2,000 places, float16."""
    places = torch.nn.functional.normalize(torch.randn(2000, dim, generator=torch.Generator().manual_seed(99)), dim=1)
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(places), (rows,), generator=generator)
    noise = torch.nn.functional.normalize(torch.randn(rows, dim, generator=generator), dim=1)
    write_descriptors(path, torch.nn.functional.normalize(places[which] + noise, dim=1).half(), "perf").close()


def _ours(folder: Path) -> NDArray[np.int64]:
    with Descriptors(folder / "database.h5") as database, Descriptors(folder / "queries.h5") as queries:
        tables = []
        for descriptors in (database, queries):
            builder = TableBuilder()
            for row in range(len(descriptors)):
                builder.add(str(row), 0.0, 0.0)
            tables.append(builder.build(folder))
        options = RerankOptions(kreciprocal_k1=K1, kreciprocal_k2=K2, kreciprocal_lambda=LAMBDA, kreciprocal_joint=True)
        split = Split("test", folder, tables[0], tables[1])
        context = RerankContext(split, database, queries, None, options, Inference((1, 1)), folder)
        return KReciprocalReranker()(search(database, queries, 20), context).predictions.indices


def _dense(folder: Path) -> None:
    """The published formulas with full matrices, a loop over the nodes."""
    with Descriptors(folder / "database.h5") as database, Descriptors(folder / "queries.h5") as queries:
        nodes = torch.cat([database.read(), queries.read()]).float()
        count = len(database)
    distance = (1 - nodes @ nodes.T).numpy()
    rank = np.argsort(distance, axis=1)
    vectors = np.zeros_like(distance)
    reciprocal: dict[int, list[Any]] = {}
    for k in (K1, K1 // 2):
        reciprocal[k] = [own[(rank[own, : k + 1] == node).any(1)] for node, own in enumerate(rank[:, : k + 1])]
    for node, own in enumerate(reciprocal[K1]):
        members = own
        for theirs in (reciprocal[K1 // 2][other] for other in own):
            if len(np.intersect1d(own, theirs)) > 2 / 3 * len(theirs):
                members = np.union1d(members, theirs)
        weights = np.exp(-distance[node, members])
        vectors[node, members] = weights / weights.sum()
    expanded = np.stack([vectors[near].mean(axis=0) for near in rank[:, :K2]])
    for query in range(count, len(nodes)):
        smaller = np.minimum(expanded[query], expanded[:count]).sum(axis=1)
        np.argsort(LAMBDA * distance[query, :count] + (1 - LAMBDA) * (1 - smaller / (2 - smaller)))


def _faiss(folder: Path) -> None:
    import faiss

    with Descriptors(folder / "database.h5") as database, Descriptors(folder / "queries.h5") as queries:
        nodes = torch.cat([database.read(), queries.read()]).float().numpy()
    index = faiss.IndexFlatL2(nodes.shape[1])
    index.add(nodes)
    index.search(nodes, K1 + 1)


def main() -> None:
    """One side, in its own process: prints its seconds and peak memory."""
    arguments = json.loads(sys.argv[1])
    find = {"ours": _ours, "dense": _dense, "faiss": _faiss}[arguments["who"]]
    folder = Path(arguments["folder"])
    times = [seconds(lambda: find(folder)) for _ in range(arguments["rounds"])]
    print(json.dumps({"seconds": times, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
