"""Query expansion, database augmentation and diffusion against plain formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vgbench.data.positives import neighbours_within
from vgbench.errors import UserError
from vgbench.retrieval import Predictions
from vgbench.retrieval.rerank import augmentation, diffusion, expansion
from vgbench.retrieval.rerank.augmentation import DatabaseAugmentation
from vgbench.retrieval.rerank.chain import rerank
from vgbench.retrieval.rerank.diffusion import DiffusionReranker
from vgbench.retrieval.rerank.expansion import QueryExpansion

Make = Callable[..., Any]
Found = Callable[..., Predictions]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def averaged(own: np.ndarray, others: np.ndarray, alpha: float) -> np.ndarray:
    """Unit vectors, one at a time, in float64."""
    rows = []
    for vector, near in zip(own.astype(np.float64), others.astype(np.float64), strict=True):
        rows.append(vector + sum(max(vector @ other, 0) ** alpha * other for other in near))
    return unit(np.array(rows))


def nearest(queries: np.ndarray, database: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - database[None], axis=-1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)


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


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_augmented_database_is_searched_and_kept(
    make_context: Make, found: Found, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmentation, "_BYTES", 4 * 12 * 5 * 7)
    context = make_context(dba_k=3, dba_alpha=alpha)
    done = DatabaseAugmentation()(found(context, 10), context)
    after = done.predictions
    queries, database = context.queries.read().numpy(), context.database.read().numpy()
    augmented = averaged(database, database[nearest(database, database, 4)[0][:, 1:]], alpha)
    np.testing.assert_allclose(after.distances, nearest(queries, augmented, 10)[1], atol=1e-5)
    # With alpha 0 images that are each other's neighbours become equal, and which of them comes first is rounding.
    np.testing.assert_allclose(
        np.linalg.norm(queries[:, None] - augmented[after.indices], axis=2), after.distances, atol=1e-5
    )
    assert done.bytes_per_image == 12 * 4
    [kept] = context.cache.glob("*.h5")
    written = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(
        DatabaseAugmentation()(found(context, 10), context).predictions.indices, after.indices
    )
    assert kept.stat().st_mtime_ns == written


def test_expansion_after_augmentation_searches_the_augmented_database(make_context: Make, found: Found) -> None:
    context = make_context(rerank=("dba", "aqe"), dba_k=3, aqe_k=2)
    utm = context.split.queries.utm, context.split.database.utm
    after, _ = rerank(found(context, 10), context, {25.0: neighbours_within(*utm, 25.0)}, (1,))
    queries, database = context.queries.read().numpy(), context.database.read().numpy()
    augmented = averaged(database, database[nearest(database, database, 4)[0][:, 1:]], 3.0)
    first = nearest(queries, augmented, 10)[0]
    expanded = averaged(queries, augmented[first[:, :2]], 3.0)
    np.testing.assert_array_equal(after.indices, nearest(expanded, augmented, 10)[0])


@pytest.mark.parametrize("size", [60, 25])
def test_diffusion_solves_the_dense_system(
    make_context: Make, found: Found, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffusion, "_NODES", 2 * size)
    context = make_context(diffusion_k=5, diffusion_query_k=3, diffusion_size=size, diffusion_alpha=0.8)
    after = DiffusionReranker()(found(context, 20), context).predictions
    queries, database = (d.read().numpy().astype(np.float64) for d in (context.queries, context.database))
    near = nearest(database, database, 6)[0][:, 1:]
    cosines = np.maximum(database @ database.T, 0)
    for query, vector in enumerate(queries):
        nodes = nearest(vector[None], database, size)[0][0]
        weights = np.array(
            [[cosines[i, j] ** 3 if j in near[i] and i in near[j] else 0.0 for j in nodes] for i in nodes]
        )
        degrees = weights.sum(1)
        scale = np.where(degrees > 0, 1 / np.sqrt(np.where(degrees > 0, degrees, 1)), 0)
        source = np.zeros(size)
        source[:3] = np.maximum(database[nodes[:3]] @ vector, 0) ** 3
        reached = np.linalg.solve(np.eye(size) - 0.8 * scale[:, None] * weights * scale, source)
        reached /= reached.max()
        order = np.argsort(-reached, kind="stable")[:20]
        np.testing.assert_allclose(after.distances[query], -reached[order], atol=1e-4)
        by_row = dict(zip(nodes.tolist(), reached.tolist(), strict=True))
        np.testing.assert_allclose([by_row[row] for row in after.indices[query].tolist()], reached[order], atol=1e-4)


@pytest.mark.parametrize("method", [QueryExpansion, DatabaseAugmentation, DiffusionReranker])
def test_several_descriptors_a_query_are_refused(make_context: Make, found: Found, method: Any) -> None:
    context = make_context()
    before = found(context, 5)
    fewer = Predictions(before.indices[:3], before.distances[:3])
    with pytest.raises(UserError, match=r"9 descriptors for 3 queries.*hard_resize"):
        method()(fewer, context)
