import numpy as np
import pytest

from vgbench.retrieval.metrics.bootstrap import first_positive_ranks, paired_difference


def test_the_rank_of_the_first_positive():
    hits = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
    assert first_positive_ranks(hits).tolist() == [1, 0, -1]


def test_the_interval_is_that_of_resampled_queries():
    """Against a plain resampling of the queries, two runs together."""
    rng = np.random.default_rng(1)
    base = np.where(rng.random(300) < 0.6, 0, 7).astype(np.int32)
    ours = np.where(rng.random(300) < 0.2, 0, base).astype(np.int32)
    found = paired_difference(ours, base, 1)
    difference = 100.0 * ((ours == 0).astype(float) - (base == 0))
    draws = [difference[rng.integers(0, 300, 300)].mean() for _ in range(4000)]
    low, high = np.percentile(draws, [2.5, 97.5])
    assert found.mean == pytest.approx(difference.mean())
    assert found.low == pytest.approx(low, abs=1.0) and found.high == pytest.approx(high, abs=1.0)
    assert paired_difference(base, ours, 1).mean == pytest.approx(-found.mean)


def test_equal_runs_do_not_differ_and_other_queries_cannot_be_compared():
    ranks = np.array([0, 3, -1], np.int32)
    assert paired_difference(ranks, ranks, 1).high == 0.0
    assert paired_difference(ranks, ranks[:2], 1) is None


def test_seeds_are_averaged():
    two = np.array([[0, -1], [-1, -1]], np.int32)
    assert paired_difference(two, np.array([-1, -1], np.int32), 1).mean == pytest.approx(25.0)
