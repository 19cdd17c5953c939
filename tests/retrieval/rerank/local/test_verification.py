"""Local and dense re-ranking of drawn places, end to end."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from textured import HEIGHT, WIDTH, homography, save, texture, view

from vgbench.data import Split
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.retrieval import Predictions, write_descriptors
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.dense import DenseReranker
from vgbench.retrieval.rerank.local import verification
from vgbench.retrieval.rerank.local.extraction import with_long_side
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.retrieval.rerank.local.matches import LocalMatches
from vgbench.retrieval.rerank.local.reranker import LocalReranker, plans_of
from vgbench.retrieval.rerank.local.store import FeatureStore
from vgbench.retrieval.rerank.local.verification import verify
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Inference, Runtime

PLACES, QUERIES = 6, 3


def table(root: Path, names: list[str]) -> ImageTable:
    builder = TableBuilder()
    for number, name in enumerate(names):
        builder.add(name, 100.0 * number, 0.0)
    return builder.build(root)


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., tuple[RerankContext, Predictions]]:
    """Return a function (options...) -> a context and predictions in which query i's place i comes last."""
    for place in range(PLACES):
        save(tmp_path / "database" / f"{place}.png", texture(place))
    for place in range(QUERIES):
        save(tmp_path / "queries" / f"{place}.png", view(place, homography(place, 0.04)))

    def make(**options: Any) -> tuple[RerankContext, Predictions]:
        split = Split(
            name="test",
            root=tmp_path,
            database=table(tmp_path / "database", [f"{i}.png" for i in range(PLACES)]),
            queries=table(tmp_path / "queries", [f"{i}.png" for i in range(QUERIES)]),
        )
        context = RerankContext(
            split=split,
            database=write_descriptors(tmp_path / "d.h5", torch.eye(PLACES), "d"),
            queries=write_descriptors(tmp_path / "q.h5", torch.eye(PLACES)[:QUERIES].contiguous(), "q"),
            network=None,
            options=RerankOptions(**options),
            inference=Inference((HEIGHT, WIDTH)),
            cache=tmp_path / "cache",
        )
        indices = np.array([[*(p for p in range(PLACES) if p != q), q] for q in range(QUERIES)], np.int64)
        distances = np.tile(np.linspace(0.5, 0.6, PLACES, dtype=np.float32), (QUERIES, 1))
        return context, Predictions(indices, distances)

    return make


@pytest.mark.parametrize("features", ["xfeat", "sift", "orb"])
@pytest.mark.parametrize("model", ["homography", "fundamental"])
def test_the_place_that_was_last_comes_first(drawn: Any, features: str, model: str) -> None:
    context, before = drawn(local_features=(features,), local_model=model, local_keypoints=400, local_threshold=2.0)
    done = LocalReranker()(before, context)
    after = done.predictions
    assert after.indices[:, 0].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(np.sort(after.indices, axis=1), np.sort(before.indices, axis=1))
    assert (np.diff(after.distances, axis=1) >= 0).all()
    assert done.bytes_per_image > 0
    assert done.preparing_s > 0


def test_matches_are_kept_for_drawing_and_lie_on_the_homography(drawn: Any) -> None:
    context, before = drawn(local_features=("sift",), local_model="homography", local_size=360)
    done = LocalReranker()(before, context)
    after = done.predictions
    matches = LocalMatches.load(done.files["local_matches"])
    np.testing.assert_array_equal(matches.candidates, after.indices[:, :5])
    for query in range(QUERIES):
        points = matches.of(query, 0) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
        assert len(points) > 30
        # The inliers are the score: cost = -log(1 + inliers) + weight * 1, the candidate having been last.
        assert after.distances[query, 0] == pytest.approx(0.5 - np.log1p(len(points)), abs=1e-5)
        moved = np.c_[points[:, 2:], np.ones(len(points))] @ homography(query, 0.04).T
        assert np.median(np.linalg.norm(moved[:, :2] / moved[:, 2:] - points[:, :2], axis=1)) < 1.5
    assert sum(len(matches.of(q, r)) for q in range(QUERIES) for r in range(5)) == len(matches.points)


def test_features_are_made_once_and_only_of_what_is_needed(drawn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context, before = drawn(local_features=("orb",), rerank_topk=2)
    first = LocalReranker()(before, context).predictions
    files = sorted(context.cache.rglob("*orb*/*.h5"))
    rows = sorted(row for path in files if "database" in path.parent.name for row in h5py.File(path)["rows"][:])
    assert rows == [0, 1, 2]  # the first two candidates of the three queries
    stamps = {path: path.stat().st_mtime_ns for path in files}
    again = LocalReranker()(before, context).predictions
    assert {path: path.stat().st_mtime_ns for path in sorted(context.cache.rglob("*orb*/*.h5"))} == stamps
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.distances, again.distances)
    # More candidates: only the rest is made.
    wider = dataclasses.replace(context, options=dataclasses.replace(context.options, rerank_topk=6))
    LocalReranker()(before, wider)
    added = set(context.cache.rglob("*orb*/*.h5")) - set(files)
    assert [h5py.File(path)["rows"][:].tolist() for path in added] == [[3, 4, 5]]


def test_nothing_to_verify_leaves_the_order(drawn: Any) -> None:
    context, before = drawn(local_features=("orb",), local_model="homography")
    for path in (context.split.root / "queries").iterdir():
        save(path, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    after = LocalReranker()(before, context).predictions
    np.testing.assert_array_equal(after.indices, before.indices)


def test_a_budget_verifies_the_first_candidates_only(drawn: Any) -> None:
    context, before = drawn(local_features=("orb",), local_budget=1e-6)
    after = LocalReranker()(before, context).predictions
    np.testing.assert_array_equal(after.indices, before.indices)
    context, before = drawn(local_features=("orb",), local_budget=1e6)
    assert LocalReranker()(before, context).predictions.indices[:, 0].tolist() == [0, 1, 2]


def test_a_budget_bounds_the_second_matcher_too(drawn: Any) -> None:
    context, before = drawn(local_features=("orb",), local_budget=1e-6)
    [plan] = plans_of(context.options, context.runtime)
    plan = dataclasses.replace(plan, second=lambda *_: pytest.fail("asked"), refine=2)
    after = verify("local", (plan,), before, context, weight=0.5, budget_ms=1e-6).predictions
    np.testing.assert_array_equal(after.indices, before.indices)


def test_a_second_matcher_adds_its_inliers(drawn: Any) -> None:
    options = {"local_keypoints": 200, "local_weight": 0.0}
    context, before = drawn(**options)
    plain = LocalReranker()(before, context).predictions
    context, before = drawn(**options, local_refine=2)
    refined = LocalReranker()(before, context).predictions
    assert refined.indices[:, 0].tolist() == [0, 1, 2]
    # Both find most of the points, so the sum is near twice.
    ratio = np.expm1(-refined.distances[:, 0].astype(float)) / np.expm1(-plain.distances[:, 0].astype(float))
    assert (ratio > 1.4).all()
    np.testing.assert_allclose(refined.distances[:, 2:], plain.distances[:, 2:], atol=1e-6)


def test_each_of_several_features_takes_its_logarithm_off_the_cost(drawn: Any) -> None:
    shared = {"local_keypoints": 200, "local_weight": 0.7, "local_size": 240}
    costs = []
    for features in (("sift",), ("orb",), ("sift", "orb"), ("orb", "sift")):
        context, before = drawn(**shared, local_features=features)
        done = LocalReranker()(before, context)
        after = done.predictions
        assert after.indices[:, 0].tolist() == [0, 1, 2]
        by_place = np.empty_like(after.distances)
        np.put_along_axis(by_place, after.indices, after.distances, axis=1)
        costs.append((by_place, done.bytes_per_image, LocalMatches.load(done.files["local_matches"])))
    (sift, sift_bytes, by_sift), (orb, orb_bytes, by_orb), *pairs = costs
    distances = np.empty_like(sift)
    term = (before.distances - before.distances.min()) / np.ptp(before.distances, axis=1, keepdims=True)
    np.put_along_axis(distances, before.indices, 0.7 * term, axis=1)
    for both, both_bytes, matches in pairs:
        np.testing.assert_allclose(both, sift + orb - distances, atol=1e-5)
        assert both_bytes == sift_bytes + orb_bytes
        for query in range(QUERIES):  # the matches that are drawn are those of the features that found more
            found = [len(one.of(query, 0)) for one in (by_sift, by_orb)]
            assert len(matches.of(query, 0)) == max(found) > 30


def test_a_budget_is_of_a_query_and_not_of_each_of_its_features(drawn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context, before = drawn(local_features=("orb", "sift"))
    first, second = plans_of(context.options, context.runtime)

    now, asked = [0.0], {"first": 0, "second": 0}
    monkeypatch.setattr(verification, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def taking(name: str, seconds: float, matcher: Any) -> Any:
        def match(query: Any, candidates: Any, pool: Any) -> Any:
            asked[name] += len(candidates)
            now[0] += seconds
            return matcher(query, candidates, pool)

        return match

    def asked_with(seconds: float) -> dict[str, int]:
        asked.update(first=0, second=0)
        plans = (
            dataclasses.replace(first, matcher=taking("first", seconds, first.matcher)),
            dataclasses.replace(second, matcher=taking("second", 0.0, second.matcher)),
        )
        verify("local", plans, before, context, weight=0.5, budget_ms=200)
        return dict(asked)

    together = torch.get_num_threads()  # so many candidates are matched before the clock is looked at
    assert asked_with(0.25) == {"first": QUERIES * together, "second": 0}
    assert asked_with(0.0) == {"first": QUERIES * PLACES, "second": QUERIES * PLACES}


def test_a_network_that_matched_everything_has_nothing_to_refine() -> None:
    options = RerankOptions(local_matcher=("lighterglue",), local_refine=3)
    with pytest.raises(UserError, match="--local_refine 3: --local_matcher lighterglue has matched all"):
        plans_of(options, Runtime())


def test_one_matcher_is_for_all_features() -> None:
    several = RerankOptions(local_features=("sift", "orb"), local_matcher=("ratio",))
    assert several.verifications == (("sift", "ratio"), ("orb", "ratio"))
    each = RerankOptions(local_features=("sift", "xfeat"), local_matcher=("ratio", "lighterglue"))
    assert each.verifications == (("sift", "ratio"), ("xfeat", "lighterglue"))


@pytest.mark.parametrize("score", ["ransac", "rapid"])
@pytest.mark.parametrize("patch", [1, 3])
def test_dense_uses_the_networks_own_map(drawn: Any, score: str, patch: int) -> None:
    context, before = drawn(dense_score=score, dense_patch=patch)
    network = build_network("efficientnet_lite0_s16", "gem", "none")
    context = dataclasses.replace(context, network=network)
    done = DenseReranker()(before, context)
    after = done.predictions
    np.testing.assert_array_equal(np.sort(after.indices, axis=1), np.sort(before.indices, axis=1))
    assert (np.diff(after.distances, axis=1) >= 0).all()
    cells = (HEIGHT // 16) * (WIDTH // 16)
    assert done.bytes_per_image > cells * network.backbone.out_channels * 2
    # A query that is a database image itself finds all of its cells again.
    same = dataclasses.replace(context.split, queries=context.split.database.select(np.array([2, 2, 2])))
    found = DenseReranker()(
        Predictions(np.array([[0, 1, 2]] * 3), before.distances[:, :3]), dataclasses.replace(context, split=same)
    )
    assert found.predictions.indices[:, 0].tolist() == [2, 2, 2]


def test_dense_needs_a_network_with_a_map(drawn: Any) -> None:
    context, before = drawn()
    with pytest.raises(UserError, match="there is no network"):
        DenseReranker()(before, context)
    network = build_network("cct384", "seqpool", "none", trunc_te=2)
    with pytest.raises(UserError, match="--rerank local"):
        DenseReranker()(before, dataclasses.replace(context, network=network))


def test_the_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    given = {}
    store = FeatureStore(tmp_path / "features", 8, binary=False)
    for rows in ([7, 3], [11]):
        batch = []
        for row in rows:
            keypoints = generator.uniform(0, 1, (row, 2)).astype(np.float32) * [639, 479]
            given[row] = LocalFeatures(
                keypoints.astype(np.float32), generator.normal(size=(row, 8)).astype(np.float32), (640, 480)
            )
            batch.append(given[row])
        store.append(rows, batch)
    store.close()
    (tmp_path / "features" / "000000000-1.partial").write_bytes(b"killed while writing")
    again = FeatureStore(tmp_path / "features", 8, binary=False)
    assert again.missing(np.array([1, 3, 7, 7, 11, 12])).tolist() == [1, 12]
    for row, features in given.items():
        read = again.read(row)
        assert read.size == (640, 480)
        np.testing.assert_allclose(read.keypoints, features.keypoints, atol=0.006)
        np.testing.assert_allclose(read.descriptors, features.descriptors, atol=2e-3)
    other = FeatureStore(tmp_path / "features", 9, binary=False)  # what is not as expected is made again
    assert other.missing(np.array([3, 7])).tolist() == [3, 7]


def test_sizes_keep_their_ratio() -> None:
    image = torch.zeros(3, 30, 60, dtype=torch.uint8)
    assert with_long_side(image, 0).shape == (3, 30, 60)
    assert with_long_side(image, 120).shape == (3, 60, 120)
    assert with_long_side(image.transpose(1, 2), 40).shape == (3, 40, 20)
