"""Candidates scored again are in the order of an exact search among them."""

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.retrieval.extraction.store import InMemory
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.refine import complete, refine
from vgbench.runtime import Runtime


def both(seed, rows=20, queries=5, dim=6):
    rng = np.random.default_rng(seed)
    made = (torch.from_numpy(rng.integers(-3, 4, (count, dim)).astype(np.float32)) for count in (rows, queries))
    return [InMemory(values, Path("x.h5")) for values in made]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(4, 10))
def test_the_nearest_candidates_come_first_equal_ones_by_row(seed, k, count):
    database, queries = both(seed)
    rng = np.random.default_rng(seed)
    candidates = np.stack([rng.permutation(20)[:count] for _ in range(5)])
    found = refine(database, queries, candidates, k, Runtime())
    for query, chosen in enumerate(candidates):
        rows = np.sort(chosen)
        squared = ((database.read()[rows].double() - queries.read()[query].double()) ** 2).sum(1).numpy()
        order = np.argsort(squared, kind="stable")[:k]
        assert np.array_equal(found.indices[query], rows[order])
        np.testing.assert_allclose(found.distances[query], np.sqrt(squared[order]), rtol=1e-6)


def test_missing_candidates_come_last_and_are_completed_by_an_exact_search():
    database, queries = both(1)
    candidates = np.array([[3, -1, -1], [1, 2, 4], [-1, -1, -1], [5, 6, -1], [0, 1, 2]])
    found = refine(database, queries, candidates, 2, Runtime())
    assert found.indices[0].tolist() == [3, -1] or found.indices[0].tolist()[0] == 3
    assert np.isinf(found.distances[2]).all()
    whole = complete(Predictions(found.indices.copy(), found.distances.copy()), database, queries, "torch", Runtime())
    assert (whole.indices >= 0).all()
    assert np.array_equal(whole.indices[[1, 3, 4]], found.indices[[1, 3, 4]])
    distances = torch.cdist(queries.read(), database.read())
    for query in (0, 2):
        np.testing.assert_allclose(whole.distances[query], distances[query].sort().values[:2], rtol=1e-5)
