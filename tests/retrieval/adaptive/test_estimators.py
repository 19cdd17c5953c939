"""Estimators of certainty against their formulas, query by query in float64."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data import Split
from vgbench.data.table import TableBuilder
from vgbench.retrieval import Predictions
from vgbench.retrieval.adaptive.estimators import distance, pa, random, sue


class Context:
    """What estimators look at: the database's coordinates."""

    def __init__(self, utm: np.ndarray) -> None:
        builder = TableBuilder()
        for number, (east, north) in enumerate(utm):
            builder.add(f"{number}.jpg", float(east), float(north))
        table = builder.build(Path("database"))
        self.split = Split("test", Path(), table, table)


def drawn(seed: int, queries: int = 7, count: int = 12, spread: float = 900.0) -> tuple[Predictions, Any]:
    rng = np.random.default_rng(seed)
    indices = np.stack([rng.permutation(30)[:count] for _ in range(queries)])
    distances = np.sort(rng.uniform(0.5, 0.52, (queries, count)), axis=1).astype(np.float32)
    return Predictions(indices, distances), Context(5e5 + rng.uniform(0, spread, (30, 2)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), spread=st.floats(0.1, 5000), neighbours=st.integers(1, 12))
def test_sue_is_the_weighted_deviation(seed: int, spread: float, neighbours: int) -> None:
    predictions, context = drawn(seed, spread=spread)
    found = sue(predictions, context, neighbours=neighbours)
    for query in range(len(predictions)):
        near = [float(d) for d in predictions.distances[query][:neighbours]]
        at = [context.split.database.utm[row] for row in predictions.indices[query][:neighbours]]
        raw = [math.exp(-350 * d) for d in near]
        weights = [w / sum(raw) for w in raw]
        mean = [sum(w * p[axis] for w, p in zip(weights, at, strict=True)) for axis in (0, 1)]
        variance = 0.0
        for weight, point in zip(weights, at, strict=True):
            variance += weight * min(math.dist(point, mean), 500.0) ** 2
        assert found[query] == pytest.approx(1 - math.sqrt(variance) / 500, abs=1e-9)


def test_sue_is_sure_where_all_neighbours_are_of_one_place_and_knows_nothing_without_coordinates() -> None:
    predictions, _ = drawn(0)
    assert sue(predictions, Context(np.full((30, 2), 7.0))).tolist() == [1.0] * 7
    assert np.isnan(sue(predictions, Context(np.full((30, 2), np.nan)))).all()


def test_distances_of_the_first_and_the_second() -> None:
    distances = np.array([[0.6, 0.8, 1.0], [0.0, 0.0, 0.4], [0.5, 0.5, 0.5]], np.float32)
    predictions, context = Predictions(np.zeros((3, 3), np.int64), distances), Context(np.zeros((1, 2)))
    np.testing.assert_allclose(distance(predictions, context), [1 - 0.18, 1.0, 1 - 0.125], atol=1e-7)
    np.testing.assert_allclose(pa(predictions, context), [0.25, 0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(pa(predictions.first(1), context), 0)  # there is no second


def test_random_knows_nothing_and_is_the_same_again() -> None:
    one, context = drawn(1)
    other, _ = drawn(2)
    assert random(one, context).tolist() == random(other, context).tolist()
    assert random(one, context).tolist() != random(one, context, seed=1).tolist()
    assert ((random(one, context) >= 0) & (random(one, context) < 1)).all()
