"""The stage: which queries are re-ranked, that they are re-ranked as all would be, and what is said of it."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vgbench.data.positives import neighbours_within
from vgbench.errors import UserError
from vgbench.retrieval import Predictions
from vgbench.retrieval.adaptive.gate import Gate
from vgbench.retrieval.adaptive.stage import Reranking, check_stage, gate_line, run
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Runtime

Make = Callable[..., Any]
Found = Callable[..., Predictions]
CHAINS = [("spatial",), ("kreciprocal",), ("aqe",), ("dba", "aqe"), ("diffusion",)]


def positives(context: Any) -> dict[float, Any]:
    return {40.0: neighbours_within(context.split.queries.utm, context.split.database.utm, 40.0)}


@pytest.mark.parametrize("chain", CHAINS)
def test_queries_below_the_limit_are_reranked_as_all_would_be_and_others_stay(
    make_context: Make, found: Found, chain: tuple[str, ...]
) -> None:
    context = make_context(rerank=chain, rerank_topk=8)
    before = found(context, 12)
    near = positives(context)
    everything = run(before, context, Reranking(context.options), near, (1, 5))
    certainty = everything.scores["pa"]
    gate = Gate("pa", float(np.sort(certainty)[4]), "given")
    some = run(before, context, Reranking(context.options, gate), near, (1, 5))
    chosen = certainty < gate.below
    assert chosen.sum() == 4
    kept = before.first(8)
    np.testing.assert_array_equal(some.predictions.indices[chosen], everything.predictions.indices[chosen])
    np.testing.assert_allclose(some.predictions.distances[chosen], everything.predictions.distances[chosen], atol=1e-6)
    np.testing.assert_array_equal(some.predictions.indices[~chosen], kept.indices[~chosen])
    np.testing.assert_array_equal(some.predictions.distances[~chosen], kept.distances[~chosen])
    said = some.facts["gate"]
    assert (said["reranked"], said["queries"]) == (4, 9)
    assert [step.queries for step in some.steps] == [4] * len(chain)
    assert some.before is not None and some.after is not None
    assert said["recall_at_1"] == [pytest.approx(100 * one.mean(), abs=1e-3) for one in (some.before, some.after)]
    assert "by_share" in everything.facts and "by_share" not in some.facts
    assert "re-ranked 4 of 9 queries (44.4%)" in gate_line(said)


@pytest.mark.parametrize(("below", "count"), [(-1.0, 0), (2.0, 9)])
def test_none_and_all(make_context: Make, found: Found, below: float, count: int) -> None:
    context = make_context(rerank=("aqe",), rerank_topk=8)
    before = found(context, 12)
    reranking = Reranking(context.options, Gate("pa", below, "given"))
    some = run(before, context, reranking, positives(context), (1,))
    everything = run(before, context, Reranking(context.options), positives(context), (1,))
    expected = everything.predictions if count else before.first(8)
    np.testing.assert_array_equal(some.predictions.indices, expected.indices)
    assert some.facts["gate"]["reranked"] == count
    assert (some.facts["gate"]["seconds_saved"] is None) == (count == 0)


def test_without_coordinates_the_gate_works_and_nothing_is_judged(make_context: Make, found: Found) -> None:
    context = make_context(rerank=("aqe",))
    outcome = run(found(context, 20), context, Reranking(context.options, Gate("distance", 0.9, "given")), {}, (1,))
    assert "estimators" not in outcome.facts and "recall_at_1" not in outcome.facts["gate"]


def test_sue_has_its_ten_neighbours_whatever_is_kept(make_context: Make, found: Found) -> None:
    context = make_context()
    reranking = Reranking(context.options)
    assert (reranking.predictions_needed((1, 5)), reranking.kept((1, 5))) == (10, 5)
    outcome = run(found(context, 10), context, reranking, positives(context), (1, 5))
    assert outcome.predictions.indices.shape == (9, 5)
    wide = run(found(context, 20), context, reranking, positives(context), (1, 20))
    np.testing.assert_array_equal(outcome.scores["sue"], wide.scores["sue"])
    only = RerankOptions(uncertainty=("pa",))
    assert Reranking(only).predictions_needed((1, 5)) == 5


def test_estimators_of_ones_own(make_context: Make, found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_estimators")
    monkeypatch.setitem(sys.modules, "my_estimators", module)

    def by_row(predictions: Predictions, context: Any, power: int = 1) -> Any:
        return predictions.indices[:, 0].astype(float) ** power

    module.by_row = by_row  # type: ignore[attr-defined]
    name = "my_estimators:by_row"
    context = make_context(uncertainty=(name,), uncertainty_args=("power=2",))
    before = found(context, 10)
    outcome = run(before, context, Reranking(context.options), positives(context), (1,))
    assert outcome.scores[name].tolist() == (before.indices[:, 0] ** 2).tolist()
    for wrong, message in ((lambda p, c: [1.0], r"returned \[1\] for 9 queries"), (lambda p, c: 1 / 0, "fails")):
        module.by_row = wrong  # type: ignore[attr-defined]
        plain = dataclasses.replace(context, options=RerankOptions(uncertainty=(name,)))
        with pytest.raises(UserError, match=message):
            run(before, plain, Reranking(plain.options), positives(plain), (1,))
    assert RerankOptions(uncertainty=(name,), rerank_when=name, rerank=("aqe",)).estimators == (name,)
    with pytest.raises(UserError, match=r"--rerank_when inlier: not known\. Did you mean inliers"):
        RerankOptions(rerank=("aqe",), rerank_when="inlier")
    with pytest.raises(UserError, match=r"nope"):
        check_stage(None, RerankOptions(uncertainty=("sue",), uncertainty_args=("nope=2",)), Runtime())
