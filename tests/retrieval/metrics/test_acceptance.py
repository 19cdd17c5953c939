"""Scores of the best match, precision and recall of accepting it, and how likely it is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from vgbench.retrieval.metrics.acceptance import distance_and_ratio, precision_recall
from vgbench.retrieval.predictions import Predictions


def test_the_ratio_is_to_the_best_of_another_place() -> None:
    utm = np.array([[0.0, 0], [10, 0], [300, 0], [305, 0]])
    indices = np.array([[0, 1, 2, 3], [2, 3, 3, 2], [1, 2, 0, 3]])
    distances = np.array([[0.2, 0.3, 0.4, 0.8], [0.1, 0.2, 0.3, 0.5], [0.0, 0.0, 0.5, 0.9]], np.float32)
    found = distance_and_ratio(Predictions(indices, distances), utm, 25.0)
    np.testing.assert_allclose(found[:, 0], [0.2, 0.1, 0.0], atol=1e-6)
    # The third of the first; the last of the second, which has no other place; nothing to divide by in the third.
    np.testing.assert_allclose(found[:, 1], [0.5, 0.2, 1.0], atol=1e-6)


def test_costs_of_inliers_give_the_ratio_of_inliers() -> None:
    utm = np.array([[0.0, 0], [300, 0]])
    costs = -np.log1p(np.array([[99.0, 9.0]], np.float32))
    found = distance_and_ratio(Predictions(np.array([[0, 1]]), costs.astype(np.float32)), utm, 25.0)
    np.testing.assert_allclose(found[0, 1], 10 / 100, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
def test_precision_and_recall_are_those_of_scikit_learn(seed: int, count: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random(count) < 0.6
    score = rng.normal(size=count) - right
    score = np.round(score) if ties else score
    found = precision_recall(score, right, int(right.sum()))
    if not right.any():
        assert found["recall_at_100_precision"] == 0 and found["accept_below"] is None
        return
    assert found["average_precision"] == pytest.approx(100 * average_precision_score(right, -score), abs=1e-2)
    precision, recall, _ = precision_recall_curve(right, -score)
    perfect = precision[:-1] == 1
    assert found["recall_at_100_precision"] == pytest.approx(100 * max(recall[:-1][perfect], default=0.0), abs=1e-2)
    if found["accept_below"] is not None:
        accepted = score <= found["accept_below"] + 1e-6
        assert right[accepted].all() and 100 * accepted.sum() / right.sum() == pytest.approx(
            found["recall_at_100_precision"], abs=1e-2
        )
    assert len(found["recall"]) == len(found["precision"]) <= 100
    assert found["recall"] == sorted(found["recall"]) and found["recall"][-1] == 100.0


def test_queries_without_positives_lower_precision_not_recall() -> None:
    score, right = np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, False, True, False])
    found = precision_recall(score, right, answerable=3)
    assert found["recall_at_100_precision"] == pytest.approx(100 / 3, abs=1e-2)
    assert found["precision"][-1] == 50.0 and found["recall"][-1] == pytest.approx(200 / 3, abs=1e-2)
