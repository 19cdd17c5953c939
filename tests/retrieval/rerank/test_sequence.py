"""The search of a sequence: windows, streaming, order, and what it does to a chain."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data.positives import neighbours_within
from vgbench.data.walk import walk_of
from vgbench.errors import UserError
from vgbench.retrieval import Predictions
from vgbench.retrieval.adaptive.stage import Reranking, check_stage, run
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.sequence import reranker
from vgbench.retrieval.sequence.methods import viterbi
from vgbench.retrieval.sequence.reranker import SequenceReranker, cheapest, windows
from vgbench.runtime import Runtime

Make = Callable[..., Any]
Found = Callable[..., Predictions]


@pytest.mark.parametrize("method", ["window", "viterbi", "filter"])
def test_one_frame_is_the_plain_search(make_context: Make, found: Found, method: str) -> None:
    context = make_context(sequence=method, seq_length=1)
    plain = found(context, 10)
    done = SequenceReranker()(plain, context).predictions
    assert done is plain
    # The same by the way that frames take.
    walk, route = walk_of(context.split.database, "list"), walk_of(context.split.queries, "list")
    for place, frames, at in windows(context, walk, route):
        assert frames.shape == (1, 60) and at == 0
        rows, distances = cheapest(frames[0].astype(np.float64), walk.rows, 10)
        assert rows.tolist() == plain.indices[place].tolist()
        np.testing.assert_allclose(distances, plain.distances[place], rtol=1e-5)


@pytest.mark.parametrize("block", [1, 4 * 60 * 4, 1 << 28])
def test_windows_stream_and_hold_what_they_need(
    make_context: Make, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(reranker, "_ROWS_BYTES", block)
    context = make_context(sequence="viterbi", seq_length=4, seq_future=1)
    walk, route = walk_of(context.split.database, "list"), walk_of(context.split.queries, "list")
    every = torch.cdist(context.queries.read(), context.database.read()).numpy()
    seen = []
    for place, frames, at in windows(context, walk, route):
        first, last = max(place - 2, 0), min(place + 1, 8)
        np.testing.assert_allclose(frames, every[first : last + 1], atol=1e-5)
        assert at == place - first
        seen.append(place)
    assert seen == list(range(9))


def test_predictions_are_those_of_the_method_on_all_distances(make_context: Make, found: Found) -> None:
    context = make_context(sequence="viterbi", seq_length=5)
    plain = found(context, 7)
    done = SequenceReranker()(plain, context).predictions
    every = torch.cdist(context.queries.read(), context.database.read()).numpy()
    walk = walk_of(context.split.database, "list")
    for query in range(9):
        first, last = max(query - 2, 0), min(query + 2, 8)
        costs = viterbi(every[first : last + 1], query - first, walk, context.options)
        assert done.indices[query].tolist() == np.argsort(costs, kind="stable")[:7].tolist()
        np.testing.assert_allclose(done.distances[query], np.sort(costs)[:7], rtol=1e-4)


def test_the_chain_goes_on_from_the_sequence(make_context: Make, found: Found) -> None:
    context = make_context(sequence="filter", seq_length=3, rerank=("spatial",), rerank_topk=6)
    near = {40.0: neighbours_within(context.split.queries.utm, context.split.database.utm, 40.0)}
    outcome = run(found(context, 10), context, Reranking(context.options), near, (1, 5))
    first, second = outcome.steps
    assert (first.name, second.name) == ("filter of 3 frames", "spatial")
    assert first.after == second.before and first.queries == 9
    assert outcome.before is not None
    assert first.after[40.0][1] == pytest.approx(100 * outcome.before.mean())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 9), levels=st.integers(1, 9))
def test_the_cheapest_are_those_of_a_whole_sort(seed: int, count: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    costs, rows = rng.integers(0, levels, 12) / levels, rng.permutation(12)
    found, distances = cheapest(costs, rows, count)
    expected = sorted(zip(costs.tolist(), rows.tolist(), strict=True))[:count]
    assert list(zip(distances.tolist(), found.tolist(), strict=True)) == [
        (pytest.approx(cost), row) for cost, row in expected
    ]


def test_a_method_of_ones_own_and_what_does_not_fit(
    make_context: Make, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("my_sequences")
    monkeypatch.setitem(sys.modules, "my_sequences", module)
    name = "my_sequences:method"
    module.method = lambda frames, at, walk, options: frames[at]  # type: ignore[attr-defined]
    context = make_context(sequence=name, seq_length=3)
    plain = found(context, 6)
    assert SequenceReranker()(plain, context).predictions.indices.tolist() == plain.indices.tolist()
    for wrong, message in ((lambda *a: a[0], "a finite cost for each"), (lambda *a: 1 / 0, "fails")):
        module.method = wrong  # type: ignore[attr-defined]
        with pytest.raises(UserError, match=message):
            SequenceReranker()(plain, context)
    with pytest.raises(UserError, match="nope"):
        check_stage(None, RerankOptions(sequence="window", sequence_args=("nope=1",)), Runtime())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence": "window", "seq_length": 3, "seq_future": 3}, "--seq_future 3: .*at most 2"),
        ({"sequence": "filter", "seq_future": 1}, "--seq_future 1: .*viterbi"),
        ({"sequence": "slam"}, "slam.*not known"),
        ({"sequence": "window", "seq_velocity": (2.0, 1.0)}, "out of order"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RerankOptions(**options)
