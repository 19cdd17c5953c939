"""Diffusion against the dense system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plain_expansion import nearest

from vgbench.retrieval import Predictions
from vgbench.retrieval.rerank import diffusion
from vgbench.retrieval.rerank.diffusion import DiffusionReranker

Make = Callable[..., Any]


Found = Callable[..., Predictions]


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
