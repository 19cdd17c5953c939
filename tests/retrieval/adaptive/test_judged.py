"""Areas and curves against scikit-learn and against counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from vgbench.retrieval.adaptive.gate import Gate
from vgbench.retrieval.adaptive.judged import area_of, recall_by_share, uncertainty_facts
from vgbench.retrieval.metrics.confidence import fit_confidence


def drawn(seed: int, count: int = 40, levels: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, count) / levels, rng.random(count) < 0.6, rng.random(count) < 0.7


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999), levels=st.integers(1, 50))
def test_the_area_is_scikit_learns(seed: int, levels: int) -> None:
    certainty, right, _ = drawn(seed, levels=levels)
    if right.any():
        assert area_of(certainty, right)["auprc"] == pytest.approx(
            100 * average_precision_score(right, certainty), abs=1e-3
        )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999), count=st.integers(1, 60))
def test_the_curve_counts_who_is_right_where_the_least_sure_are_reranked(seed: int, count: int) -> None:
    certainty, before, after = drawn(seed, count)
    curve = recall_by_share(certainty, before, after)
    order = sorted(range(count), key=lambda query: (certainty[query], query))
    for share, recall in zip(curve["share"], curve["recall_at_1"], strict=True):
        reranked = set(order[: round(share * count / 100)])
        right = sum(after[query] if query in reranked else before[query] for query in range(count))
        assert recall == pytest.approx(100 * right / count, abs=1e-3)
    assert curve["share"][0] == 0 and curve["share"][-1] == 100


def test_facts_leave_out_what_knows_nothing_and_judge_what_was_learned() -> None:
    certainty, before, after = drawn(3)
    scores = {"distance": certainty, "sue": np.full(40, np.nan)}
    facts = uncertainty_facts(scores, before, after, None)
    assert set(facts["estimators"]) == set(facts["by_share"]) == {"distance"}
    assert facts["recall_at_1"] == pytest.approx(100 * before.mean(), abs=1e-3)
    assert "by_share" not in uncertainty_facts(scores, before, None, None)
    assert uncertainty_facts(scores, None, None, None) == {}
    model = fit_confidence(certainty[:, None], before)
    learned = uncertainty_facts(scores, before, None, Gate("learned", 0.5, "val", ("distance",), model))
    rising = model.weights[0] > 0
    expected = area_of(certainty if rising else -certainty, before)["auprc"]
    assert learned["estimators"]["learned"]["auprc"] == pytest.approx(expected, abs=1e-3)
