"""Query expansion, database augmentation and diffusion against plain formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plain_expansion import averaged, nearest

from vgbench.data.positives import neighbours_within
from vgbench.errors import UserError
from vgbench.retrieval import Predictions
from vgbench.retrieval.rerank import expansion
from vgbench.retrieval.rerank.augmentation import DatabaseAugmentation
from vgbench.retrieval.rerank.chain import rerank
from vgbench.retrieval.rerank.diffusion import DiffusionReranker
from vgbench.retrieval.rerank.expansion import QueryExpansion

Make = Callable[..., Any]


Found = Callable[..., Predictions]


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_expanded_queries_find_their_neighbours(
    make_context: Make, found: Found, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "_BYTES", 4 * 12 * 4 * 2)  # two queries at a time
    context = make_context(aqe_k=4, aqe_alpha=alpha)
    before = found(context, 10)
    done = QueryExpansion()(before, context)
    after = done.predictions
    assert done.context is not None
    queries, database = context.queries.read().numpy(), context.database.read().numpy()
    expanded = averaged(queries, database[before.indices[:, :4]], alpha)
    indices, distances = nearest(expanded, database, 10)
    np.testing.assert_array_equal(after.indices, indices)
    np.testing.assert_allclose(after.distances, distances, atol=1e-5)
    np.testing.assert_allclose(done.context.queries.read().numpy(), expanded, atol=1e-6)


def test_expansion_after_augmentation_searches_the_augmented_database(make_context: Make, found: Found) -> None:
    context = make_context(rerank=("dba", "aqe"), dba_k=3, aqe_k=2)
    utm = context.split.queries.utm, context.split.database.utm
    after, _ = rerank(found(context, 10), context, {25.0: neighbours_within(*utm, 25.0)}, (1,))
    queries, database = context.queries.read().numpy(), context.database.read().numpy()
    augmented = averaged(database, database[nearest(database, database, 4)[0][:, 1:]], 3.0)
    first = nearest(queries, augmented, 10)[0]
    expanded = averaged(queries, augmented[first[:, :2]], 3.0)
    np.testing.assert_array_equal(after.indices, nearest(expanded, augmented, 10)[0])


@pytest.mark.parametrize("method", [QueryExpansion, DatabaseAugmentation, DiffusionReranker])
def test_several_descriptors_a_query_are_refused(make_context: Make, found: Found, method: Any) -> None:
    context = make_context()
    before = found(context, 5)
    fewer = Predictions(before.indices[:3], before.distances[:3])
    with pytest.raises(UserError, match=r"9 descriptors for 3 queries.*hard_resize"):
        method()(fewer, context)
