from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data import Neighbours
from vgbench.report.outcome import NEVER, metres_text, outcome_of
from vgbench.retrieval.predictions import Predictions


def test_outcome_of_a_city_known_by_hand(city):
    outcome = outcome_of(city.split, city.predictions, city.neighbours)
    assert outcome.first_hit.tolist() == [1, 1, 3, NEVER, NEVER, NEVER]
    assert outcome.hit.tolist() == [True, True, False, False, False, False]
    assert outcome.answerable.tolist() == [True, True, True, True, True, False]
    assert outcome.metres[3] == pytest.approx([np.hypot(90, 1), np.hypot(80, 1), np.hypot(70, 1)])
    assert outcome.recall_curve() == pytest.approx([100 * 2 / 6, 100 * 2 / 6, 100 * 3 / 6])
    # Query 4 is missed by 110 m, query 3 by 90 m; both never hit. Then the late hit, then the hopeless one, then hits.
    assert outcome.worst_first().tolist()[:4] == [4, 3, 2, 5]
    assert sorted(outcome.worst_first().tolist()) == list(range(6))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_outcome_agrees_with_a_loop(queries, database, depth, seed):
    rng = np.random.default_rng(seed)
    depth = min(depth, database)
    indices = np.stack([rng.permutation(database)[:depth] for _ in range(queries)]).astype(np.int64)
    truth = rng.random((queries, database)) < 0.3
    counts = truth.sum(1)
    neighbours = Neighbours(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.nonzero(truth)[1])
    table = lambda n: SimpleNamespace(utm=rng.uniform(0, 1e3, (n, 2)))  # noqa: E731
    split = SimpleNamespace(database=table(database), queries=table(queries))
    outcome = outcome_of(split, Predictions(indices, np.zeros(indices.shape, np.float32)), neighbours)
    for query in range(queries):
        ranks = [rank for rank, row in enumerate(indices[query], 1) if truth[query, row]]
        assert outcome.first_hit[query] == (ranks[0] if ranks else NEVER)
        assert outcome.answerable[query] == truth[query].any()
        for rank, row in enumerate(indices[query]):
            assert outcome.correct[query, rank] == truth[query, row]
            expected = np.linalg.norm(split.database.utm[row] - split.queries.utm[query])
            assert outcome.metres[query, rank] == pytest.approx(expected)
    curve = [100 * np.mean(outcome.first_hit <= n) for n in range(1, depth + 1)]
    assert outcome.recall_curve() == pytest.approx(curve)


@pytest.mark.parametrize(
    ("metres", "text"),
    [
        (0, "0.0 m"),
        (9.94, "9.9 m"),
        (9.96, "10 m"),
        (999.4, "999 m"),
        (999.6, "1.0 km"),
        (99_949, "99.9 km"),
        (2e6, "2000 km"),
    ],
)
def test_metres_text(metres, text):
    assert metres_text(metres) == text
