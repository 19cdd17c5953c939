"""k-reciprocal encoding against a dense implementation written from the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vgbench.retrieval import Predictions
from vgbench.retrieval.rerank import kreciprocal
from vgbench.retrieval.rerank.kreciprocal import KReciprocalReranker


def dense(queries: np.ndarray, database: np.ndarray, k1: int, k2: int, share: float, joint: bool) -> np.ndarray:
    """Return the final distances [Q,N], by sets and full matrices in float64."""
    if not joint and len(queries) > 1:
        return np.concatenate([dense(one[None], database, k1, k2, share, joint) for one in queries])
    nodes = np.concatenate([database, queries]).astype(np.float64)
    squares = (nodes**2).sum(1)
    distance = ((nodes[:, None] - nodes) ** 2).sum(-1) / (squares[:, None] + squares)
    np.fill_diagonal(distance, -1)
    apart = np.sqrt(((nodes[:, None] - nodes) ** 2).sum(-1)) - np.eye(len(nodes))
    if not joint:  # the query is in no list but its own
        apart[:-1, -1] = np.inf
    rank = np.argsort(apart, axis=1, kind="stable")
    np.fill_diagonal(distance, 0)

    def reciprocal(node: int, k: int) -> set[int]:
        if joint or node < len(database):
            return {int(other) for other in rank[node, : k + 1] if node in rank[other, : k + 1]}
        # With the query among them, would it be one of the first k?
        mine = apart[node]
        nearer = {o: (np.delete(apart[o, :-1], o) < mine[o]).sum() for o in range(len(database))}
        return {int(o) for o in rank[node, : k + 1] if o == node or nearer[int(o)] < k}

    vectors = np.zeros_like(distance)
    half = round(k1 / 2)
    for node in range(len(nodes)):
        own = reciprocal(node, k1)
        members = set(own)
        for other in own:
            theirs = reciprocal(other, half)
            if len(own & theirs) > 2 / 3 * len(theirs):
                members |= theirs
        members_list = sorted(members)
        vectors[node, members_list] = np.exp(-distance[node, members_list])
        vectors[node] /= vectors[node].sum()
    expanded = np.array([vectors[rank[node, :k2]].mean(0) for node in range(len(nodes))])
    q, g = expanded[len(database) :, None], expanded[None, : len(database)]
    jaccard = 1 - np.minimum(q, g).sum(-1) / np.maximum(q, g).sum(-1)
    return share * distance[len(database) :, : len(database)] + (1 - share) * jaccard


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(("k1", "k2", "share"), [(20, 6, 0.3), (7, 3, 0.0), (4, 1, 0.9), (50, 10, 0.3)])
def test_equals_the_dense_form(
    make_context: Callable[..., Any], found: Callable[..., Predictions], k1: int, k2: int, share: float,
    joint: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(kreciprocal, "_ELEMENTS", 2000)  # several blocks
    monkeypatch.setattr(kreciprocal, "_ENTRIES", 500)
    context = make_context(
        rerank_topk=30, kreciprocal_k1=k1, kreciprocal_k2=k2, kreciprocal_lambda=share, kreciprocal_joint=joint
    )
    before = found(context, 40)
    after = KReciprocalReranker()(before, context).predictions
    wanted = dense(context.queries.read().numpy(), context.database.read().numpy(), k1, k2, share, joint)
    head = np.take_along_axis(wanted, before.indices[:, :30], axis=1)
    order = np.argsort(head, axis=1, kind="stable")
    np.testing.assert_allclose(after.distances[:, :30], np.take_along_axis(head, order, 1), atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(wanted, after.indices[:, :30], 1), after.distances[:, :30], atol=1e-6)
    np.testing.assert_array_equal(after.indices[:, 30:], before.indices[:, 30:])
    assert (np.diff(after.distances, axis=1) >= 0).all()


def test_repeated_images_are_their_own_first_neighbours(
    make_context: Callable[..., Any], found: Callable[..., Predictions]
) -> None:
    import torch

    one = torch.nn.functional.normalize(torch.ones(1, 12), dim=1)
    database = torch.cat([one.expand(40, 12), -one.expand(5, 12)])
    context = make_context(database=database, queries=one, rerank_topk=45, kreciprocal_k1=6)
    after = KReciprocalReranker()(found(context, 45), context).predictions
    assert np.isfinite(after.distances).all()
    assert set(after.indices[0, 40:].tolist()) == {40, 41, 42, 43, 44}
