"""Predicted positions, their errors, and recall against the threshold, beside loops in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data import neighbours_within
from vgbench.errors import UserError
from vgbench.retrieval import EvalOptions, recalls
from vgbench.retrieval.metrics.pose import position_errors, predicted_poses, recall_by_distance
from vgbench.retrieval.predictions import Predictions

OPTIONS = EvalOptions(pose_candidates=4, pose_radius=20.0)


def predictions_of(distances: np.ndarray, indices: np.ndarray) -> Predictions:
    return Predictions(indices.astype(np.int64), distances.astype(np.float32))


def slow_pose(utm: np.ndarray, distances: np.ndarray, scale: float, radius: float) -> tuple[np.ndarray, int]:
    weights = [math.exp(-(d - distances[0]) / scale) for d in distances]
    best, members = -1.0, []
    for a in range(len(utm)):
        near = [b for b in range(len(utm)) if math.dist(utm[a], utm[b]) <= radius]
        total = round(sum(weights[b] for b in near), 9)
        if total > best:
            best, members = total, near
    total = sum(weights[b] for b in members)
    return sum(np.asarray(utm[b]) * (weights[b] / total) for b in members), len(members)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 6))
def test_the_weighted_position_is_that_of_the_plain_loop(seed: int, queries: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    utm = 5e5 + rng.integers(0, 12, (30, 2)) * 7.3
    distances = np.sort(rng.normal(0, 1, (queries, depth)), axis=1).astype(np.float32)
    predictions = predictions_of(distances, rng.integers(0, 30, (queries, depth)))
    poses = predicted_poses(predictions, utm, OPTIONS)
    count = min(4, depth)
    shown = distances[:, :count].astype(np.float64)
    scale = max(float(np.median(shown[:, -1] - shown[:, 0])), 1e-9)
    for query in range(queries):
        rows = predictions.indices[query, :count]
        expected, members = slow_pose(utm[rows], shown[query], scale, 20.0)
        np.testing.assert_allclose(poses.weighted[query], expected, atol=1e-6)
        assert poses.agreeing[query] == members
        np.testing.assert_array_equal(poses.best[query], utm[rows[0]])


def test_three_that_agree_outvote_a_lonely_best_match() -> None:
    utm = np.array([[900.0, 0.0], [0.0, 0.0], [4.0, 0.0], [2.0, 3.0]])
    poses = predicted_poses(predictions_of(np.array([[0.50, 0.52, 0.53, 0.54]]), np.arange(4)[None]), utm, OPTIONS)
    assert poses.best.tolist() == [[900.0, 0.0]] and poses.agreeing.tolist() == [3]
    assert 0 < poses.weighted[0, 0] < 4 and 0 < poses.weighted[0, 1] < 3


def test_error_quantiles() -> None:
    utm = np.array([[0.0, 0.0], [0.0, 30.0]])
    poses = predicted_poses(predictions_of(np.tile([0.1, 0.9], (5, 1)), np.tile([0, 1], (5, 1))), utm, OPTIONS)
    queries = np.array([[3.0, 4.0], [0.0, 10.0], [0.0, 20.0], [0.0, 40.0], [0.0, 80.0]])
    facts = position_errors(poses, queries, OPTIONS)
    assert facts["best"] == {"25": 10.0, "50": 20.0, "75": 40.0, "90": 64.0}
    assert facts["weighted"] == facts["best"]  # the second lies too far off to agree
    assert facts["candidates"] == 4 and facts["radius_m"] == 20.0


def test_the_curve_meets_the_recall_table_at_every_threshold() -> None:
    rng = np.random.default_rng(1)
    database, queries = rng.uniform(0, 150, (60, 2)), rng.uniform(0, 150, (25, 2))
    indices = rng.integers(0, 60, (25, 6))
    metres = np.hypot(*np.moveaxis(database[indices] - queries[:, None], 2, 0))
    curves = recall_by_distance(metres, (1, 3, 9))
    assert curves["metres"] == list(range(1, 101))
    for threshold in (1, 10, 25, 60, 100):
        expected = recalls(indices, neighbours_within(queries, database, float(threshold)), (1, 3, 9))
        found = [curves[str(n)][threshold - 1] for n in (1, 3, 9)]
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("bad", [{"pose_candidates": 0}, {"pose_radius": -1.0}, {"pose_radius": math.inf}])
def test_values_out_of_range_are_one_line(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(bad))}"):
        EvalOptions(**bad)  # type: ignore[arg-type]
