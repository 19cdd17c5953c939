"""The score of one shift."""

from __future__ import annotations

import numpy as np
import pytest

from vgbench.retrieval.rerank.dense import rapid_score


def test_rapid_score_rewards_one_shift() -> None:
    generator = np.random.default_rng(0)
    points = generator.integers(0, 20, (50, 2)).astype(np.float32)
    for shift in ([0, 0], [3, 1]):
        score, support = rapid_score(points, points + np.float32(shift), (20, 20))
        assert score == pytest.approx(50)
        assert support.all()
    mixed = points + np.float32([3, 1])
    mixed[0] = points[0] - np.float32([3, 0])
    score, support = rapid_score(points, mixed, (20, 10))
    wanted = 0.0
    for shift in (mixed - points).astype(np.float64):
        for axis, size in enumerate((20, 10)):
            wanted += (1 - abs(shift[axis] - (mixed - points)[:, axis].mean()) / size) ** 2 / 2
    assert score == pytest.approx(wanted)
    assert not support[0] and support[1:].all()
    assert rapid_score(points, generator.permutation(points), (20, 20))[0] < 40
    assert rapid_score(points[:0], points[:0], (20, 20))[0] == 0
