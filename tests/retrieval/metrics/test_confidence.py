"""How likely a match is right: the fit, its calibration, its file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vgbench.retrieval.metrics.confidence import Confidence, calibration, cross_validated, fit_confidence


def sample(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = np.stack([rng.uniform(0.2, 1.2, count), rng.uniform(0.3, 1.0, count)], axis=1)
    chance = 1 / (1 + np.exp(9 * (features[:, 0] - 0.7) + 4 * (features[:, 1] - 0.7)))
    return features, rng.random(count) < chance


def test_the_fit_is_scikit_learns_but_for_softened_targets() -> None:
    features, right = sample(4000)
    ours = fit_confidence(features, right)(features)
    scaled = (features - features.mean(0)) / features.std(0)
    theirs = LogisticRegression(C=1.0).fit(scaled, right).predict_proba(scaled)[:, 1]
    assert np.abs(ours - theirs).max() < 2e-3


@pytest.mark.parametrize("value", [True, False])
def test_all_right_or_all_wrong_is_no_certainty(value: bool) -> None:
    features, _ = sample(30)
    chance = fit_confidence(features, np.full(30, value))(features)
    assert np.isfinite(chance).all() and ((chance > 0.8) & (chance < 1) if value else (chance < 0.2)).all()
    one = fit_confidence(features[:1], np.array([value]))(features)
    assert np.isfinite(one).all()


def test_each_query_is_judged_without_its_own_answer() -> None:
    features, right = sample(100)
    before = cross_validated(features, right)
    changed = right.copy()
    changed[40:50] = ~changed[40:50]
    after = cross_validated(features, changed)
    np.testing.assert_array_equal(before[40:50], after[40:50])
    assert (before[:40] != after[:40]).all()
    assert np.isnan(cross_validated(features[:1], right[:1])).all()


def test_what_is_calibrated_has_a_small_error_and_what_is_not_a_large_one() -> None:
    features, right = sample(5000)
    good = calibration(cross_validated(features, right), right)
    assert good["expected_calibration_error"] < 3
    bad = calibration(np.full(5000, 0.99), right)
    assert bad["expected_calibration_error"] == pytest.approx(99 - 100 * right.mean(), abs=0.01)
    assert sum(one["queries"] for one in good["bins"]) == 5000
    assert calibration(np.array([1.0, 0.0]), np.array([True, False]))["expected_calibration_error"] == 0


def test_a_model_survives_its_file() -> None:
    features, right = sample(50)
    model = fit_confidence(features, right)
    again = Confidence.from_json(json.loads(json.dumps(model.as_json())))
    np.testing.assert_array_equal(model(features), again(features))
