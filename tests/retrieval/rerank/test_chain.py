"""The chain: what is reported, what is refused, and users' own scores."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vgbench.data.positives import neighbours_within
from vgbench.errors import UserError
from vgbench.retrieval import Predictions, recalls
from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.rerank import RERANKERS
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.chain import check_rerankers, make_reranker, predictions_needed, rerank, steps_table
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.rerank.order import descriptor_term, permuted, reordered
from vgbench.retrieval.rerank.pairwise import PairwiseReranker
from vgbench.retrieval.searching.exact import search

Make = Callable[..., Any]
Found = Callable[..., Predictions]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the user's own, to put re-rankers into."""
    module = types.ModuleType("my_rerankers")
    monkeypatch.setitem(sys.modules, "my_rerankers", module)
    return module


def neighbours_of(context: Any) -> dict[float, Any]:
    return {t: neighbours_within(context.split.queries.utm, context.split.database.utm, t) for t in (25.0, 50.0)}


def test_every_step_says_recall_before_and_after_time_and_bytes(make_context: Make, found: Found) -> None:
    context = make_context(rerank=("spatial", "kreciprocal", "aqe"), rerank_topk=10)
    before, positives = found(context, 12), neighbours_of(context)
    after, steps = rerank(before, context, positives, (1, 5))
    assert [step.name for step in steps] == ["spatial", "kreciprocal", "aqe"]
    first = recalls(before.indices, positives[25.0], (1, 5)).tolist()
    assert list(steps[0].before[25.0].values()) == first
    for one, following in itertools.pairwise(steps):
        assert one.after == following.before
    last = recalls(after.indices, positives[50.0], (1, 5)).tolist()
    assert list(steps[-1].after[50.0].values()) == last
    assert all(step.ms_per_query > 0 for step in steps)
    stored = json.loads(json.dumps([step.as_json() for step in steps]))
    assert stored[0]["before"]["25"]["1"] == pytest.approx(first[0], abs=1e-3)
    assert stored[2]["name"] == "aqe"
    table = steps_table(steps).splitlines()
    assert len(table) == 2 + 4
    assert "ms per query" in table[0] and "bytes per image" in table[0]


def test_the_search_returns_enough() -> None:
    assert predictions_needed((1, 5), RerankOptions()) == 5
    assert predictions_needed((1, 5), RerankOptions(rerank=("spatial",), rerank_topk=30)) == 30
    assert predictions_needed((1, 50), RerankOptions(rerank=("spatial",), rerank_topk=30)) == 50


def test_a_users_function_orders_by_its_scores(make_context: Make, found: Found, own: Any) -> None:
    asked: list[tuple[Path, Sequence[Path]]] = []

    def score(query: Path, candidates: Sequence[Path]) -> list[float]:
        asked.append((query, candidates))
        return [float(path.stem) for path in candidates]  # the largest row first

    own.score = score
    context = make_context(rerank=("my_rerankers:score",), rerank_topk=6)
    before = found(context, 9)
    after, _ = rerank(before, context, neighbours_of(context), (1,))
    np.testing.assert_array_equal(after.indices[:, :6], -np.sort(-before.indices[:, :6], axis=1))
    np.testing.assert_array_equal(after.indices[:, 6:], before.indices[:, 6:])
    assert asked[2][0] == context.split.queries.path(2)
    assert asked[2][1][0] == context.split.database.path(int(before.indices[2, 0]))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda query, candidates: [1.0], r"returned \[1\] scores for 5 candidates"),
        (lambda query, candidates: [float("nan")] * len(candidates), "one finite number per candidate"),
        (lambda query, candidates: [-float("inf")] * len(candidates), "one finite number per candidate"),
        (lambda query: 0, "fails on .*0.jpg"),
        (lambda query, candidates: {}[query], "fails on .*KeyError"),
        (lambda query, candidates: ["good"] * 5, "fails on"),
    ],
)
def test_a_users_function_that_does_not_fit(
    make_context: Make, found: Found, own: Any, function: Any, message: str
) -> None:
    own.score = function
    context = make_context(rerank=("my_rerankers:score",), rerank_topk=5)
    with pytest.raises(UserError, match=message) as caught:
        rerank(found(context, 5), context, neighbours_of(context), (1,))
    assert "\n" not in str(caught.value)


class TakesNoPredictions:
    def __call__(self, query: Path, candidates: Sequence[Path]) -> list[float]:
        return [1.0] * len(candidates)


class NeedsAnArgument:
    def __init__(self, weights: Path) -> None:
        raise AssertionError


@pytest.mark.parametrize("kind", [TakesNoPredictions, NeedsAnArgument])
def test_a_users_class_that_does_not_fit(make_context: Make, found: Found, own: Any, kind: type) -> None:
    own.Kind = kind
    context = make_context(rerank=("my_rerankers:Kind",), rerank_topk=5)
    with pytest.raises(UserError, match=r"^--rerank my_rerankers:Kind: .*Expected a (function|class)") as caught:
        rerank(found(context, 5), context, neighbours_of(context), (1,))
    assert "\n" not in str(caught.value)


def test_results_that_are_no_predictions_are_refused(make_context: Make, found: Found, own: Any) -> None:
    context = make_context()
    before = found(context, 5)

    class Wrong:
        bytes_per_image = 0.0
        result: Any = None

        def __call__(self, predictions: Predictions, context: Any) -> Any:
            return self.result

    own.Wrong, own.number = Wrong, 3
    context = make_context(rerank=("my_rerankers:Wrong",))
    Wrong.result = Predictions(before.indices[:, :2], before.distances[:, :2])
    with pytest.raises(UserError, match="did not return predictions"):
        rerank(before, context, neighbours_of(context), (1,))
    Wrong.result = Predictions(before.indices, before.distances[:, ::-1])
    with pytest.raises(UserError, match="best first"):
        rerank(before, context, neighbours_of(context), (1,))
    with pytest.raises(UserError, match="neither a class nor a function"):
        make_reranker("my_rerankers:number")


def test_a_users_class_that_knows_nothing_of_ours_is_adapted(make_context: Make, found: Found, own: Any) -> None:
    checked: list[Any] = []

    class Mine:
        """As classes could be written before there was a base: plain predictions, costs as attributes."""

        bytes_per_image = 12.0
        preparing_s = 1e6

        def check(self, network: Any, options: Any, runtime: Any) -> None:
            checked.append(options)

        def __call__(self, predictions: Predictions, context: Any) -> Predictions:
            self.files = {"notes": Path("notes.txt")}
            self.context = dataclasses.replace(context, queries=InMemory.of(context.queries, np.arange(9)[::-1]))
            return predictions

    class Ours(Reranker):
        """With the base; sees the descriptors that the one before it left."""

        def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
            assert isinstance(context.queries, InMemory)
            return Reranked(predictions, bytes_per_image=7, files={"seen": Path("seen.txt")})

    own.Mine, own.Ours, own.Silent = Mine, Ours, types.SimpleNamespace
    context = make_context(rerank=("my_rerankers:Mine", "my_rerankers:Ours"))
    check_rerankers(None, context.options, context.runtime)
    assert checked == [context.options]
    before = found(context, 5)
    after, (first, second) = rerank(before, context, neighbours_of(context), (1,))
    np.testing.assert_array_equal(after.indices, before.indices)
    assert (first.bytes_per_image, first.preparing_s, first.ms_per_query) == (12.0, 1e6, 0.0)
    assert first.files == {"notes": Path("notes.txt")}
    assert (second.bytes_per_image, second.preparing_s, second.files) == (7.0, 0.0, {"seen": Path("seen.txt")})
    with pytest.raises(
        UserError, match=r"my_rerankers:Silent: SimpleNamespace has no __call__\. Expected a class with"
    ):
        make_reranker("my_rerankers:Silent")


@pytest.mark.parametrize("name", ["aqe", "dba", "diffusion", "kreciprocal"])
def test_what_searches_again_searches_as_the_options_say(make_context: Make, found: Found, name: str) -> None:
    context = make_context(rerank=(name,), rerank_topk=5)
    asked: list[int] = []

    def search_as_asked(database: Descriptors, queries: Descriptors, k: int) -> Predictions:
        asked.append(k)
        return search(database, queries, k)

    before, positives = found(context, 8), neighbours_of(context)
    plain, _ = rerank(before, context, positives, (1,))
    for path in context.cache.glob("*.h5"):
        path.unlink()  # what is kept would spare dba its neighbours
    again, _ = rerank(before, dataclasses.replace(context, search=search_as_asked), positives, (1,))
    assert asked, "searched by itself"
    np.testing.assert_array_equal(again.indices, plain.indices)


def test_pairs_of_images_reach_a_pairwise_network(make_context: Make, found: Found) -> None:
    context = make_context(rerank_topk=4)
    for table, shade in ((context.split.queries, 0), (context.split.database, 100)):
        table.root.mkdir(parents=True)
        for row in range(len(table)):
            Image.new("RGB", (12, 10), (row + shade, 0, 0)).save(table.path(row), format="PNG")

    batches: list[int] = []

    class Scorer:
        size = (8, 6)

        def pair_scores(self, query_images: torch.Tensor, candidate_images: torch.Tensor) -> torch.Tensor:
            assert query_images.shape[1:] == candidate_images.shape[1:] == (3, 8, 6)
            batches.append(len(query_images))
            query, candidate = query_images[:, 0, 0, 0].int(), candidate_images[:, 0, 0, 0].int() - 100
            return ((candidate * 7 + query * 3) % 11).float()

    before = found(context, 6)
    after = PairwiseReranker(Scorer(), pairs_at_once=10)(before, context).predictions
    assert batches == [10, 10, 10, 6]
    for query, rows in enumerate(before.indices[:, :4].tolist()):
        wanted = sorted(rows, key=lambda row: -((row * 7 + query * 3) % 11))
        assert after.indices[query, :4].tolist() == wanted
    np.testing.assert_array_equal(after.indices[:, 4:], before.indices[:, 4:])


def test_new_orders_keep_distances_in_order() -> None:
    before = Predictions(np.array([[5, 6, 7, 8, 9]]), np.array([[0.1, 0.2, 0.3, 0.4, 0.6]], np.float32))
    after = reordered(before, np.array([[2.0, 1.0, 1.0]]))
    assert after.indices.tolist() == [[6, 7, 5, 8, 9]]
    np.testing.assert_allclose(after.distances, [[1, 1, 2, 2.1, 2.3]], atol=1e-6)
    moved = permuted(before, np.array([[2, 0, 1]]))
    assert moved.indices.tolist() == [[7, 5, 6, 8, 9]]
    np.testing.assert_allclose(moved.distances, [[0.3, 0.3, 0.3, 0.4, 0.6]], atol=1e-6)
    np.testing.assert_allclose(descriptor_term(before.distances), [[0, 0.2, 0.4, 0.6, 1]], atol=1e-6)
    assert descriptor_term(np.ones((2, 3), np.float32)).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize(
    "options",
    [
        {"rerank": ("spatail",)},
        {"rerank_topk": 0},
        {"spatial_radius": 0.0},
        {"spatial_radius": float("nan")},
        {"spatial_order": "sise"},
        {"kreciprocal_lambda": 1.5},
        {"diffusion_alpha": 1.0},
        {"aqe_alpha": -1.0},
        {"local_budget": float("inf")},
        {"local_size": 20},
        {"local_refine": -1},
        {"local_matcher": ("mutuel",)},
        {"local_matcher": ("mutual", "ratio")},
        {"dense_patch": 2},
        {"local_model": "affine"},
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any]) -> None:
    [name] = options
    with pytest.raises(UserError, match=f"--{name}|Did you mean spatial") as caught:
        RerankOptions(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(RERANKERS))
def test_every_name_of_the_table_can_be_made(name: str) -> None:
    assert callable(make_reranker(name))
