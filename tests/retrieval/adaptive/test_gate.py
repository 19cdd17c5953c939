"""The gate: its limit by trying all, its model by scikit-learn, its file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from vgbench.errors import UserError
from vgbench.retrieval.adaptive.gate import Gate, best_limit, certainty_of, learned_from


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), count=st.integers(1, 25), levels=st.integers(1, 9))
def test_no_other_limit_is_better_or_as_good_with_fewer_queries(seed: int, count: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    certainty = rng.integers(0, levels, count) / levels
    before, after = rng.random(count) < 0.5, rng.random(count) < 0.6
    limit, said = best_limit(certainty, before, after)

    def outcome(below: float) -> tuple[int, int]:
        chosen = certainty < below
        return int(np.where(chosen, after, before).sum()), -int(chosen.sum())

    best = max(outcome(below) for below in [*certainty.tolist(), 2.0])
    assert outcome(limit) == best
    assert said["recall"] == pytest.approx(100 * best[0] / count, abs=1e-3)
    assert said["share"] == pytest.approx(-100 * best[1] / count, abs=1e-3)
    assert said["recall_all"] == pytest.approx(100 * after.mean(), abs=1e-3)
    assert said["recall_none"] == pytest.approx(100 * before.mean(), abs=1e-3)


def test_what_is_learned_is_logistic_regression_on_all_but_the_control() -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.random(600) for name in ("distance", "inliers", "random")}
    scores["sue"] = np.full(600, np.nan)
    right = rng.random(600) < 1 / (1 + np.exp(-6 * (scores["distance"] + scores["inliers"] - 1)))
    names, model = learned_from(scores, right)
    assert names == ("distance", "inliers")
    features = np.stack([scores[name] for name in names], axis=1)
    scaled = (features - features.mean(0)) / features.std(0)
    # Platt's targets are two weighted answers for each query.
    hits = right.sum()
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2))
    theirs = LogisticRegression(C=1.0, tol=1e-10).fit(
        np.concatenate([scaled, scaled]), np.repeat([1, 0], 600), np.concatenate([target, 1 - target])
    )
    gate = Gate("learned", 0.5, "val", names, model)
    np.testing.assert_allclose(gate.certainty(scores), theirs.predict_proba(scaled)[:, 1], atol=1e-5)
    again = Gate.from_json(json.loads(json.dumps(gate.as_json())))
    assert again == gate
    assert again.certainty(scores).tolist() == gate.certainty(scores).tolist()


def test_nothing_to_learn_from_and_numbers_that_are_none_are_refused() -> None:
    right = np.array([True, False])
    with pytest.raises(UserError, match="an estimator other than random"):
        learned_from({"random": np.zeros(2)}, right)
    with pytest.raises(UserError, match="sue is no number"):
        certainty_of("sue", {"sue": np.array([1.0, np.nan])}, (), None)
    damaged = Gate("pa", 0.1, "val").as_json() | {"names": ["pa"], "model": {"mean": [0.0]}}
    with pytest.raises((KeyError, ValueError)):
        Gate.from_json(damaged)
