"""maj_voting: five crops are searched, and images that several of them find come nearer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.retrieval.query_methods.nearest_crop import NearestCrop

_DEPTHS = (1, 5, 10)  # ranks within which a crop's prediction counts as a vote


class MajorityVoting(NearestCrop):
    """nearest_crop after a vote (Berton et al., 2022).

    An image that c > 1 crops have among their first n predictions comes nearer there by --majority_weight * c / n, in
    squared distance, for n = 1, 5 and 10.
    """

    def scores(self, indices: NDArray[np.int64], squared: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = squared.copy()
        for depth in _DEPTHS:
            shown = indices[:, :, :depth].reshape(len(indices), -1)
            votes = _occurrences(shown).reshape(len(indices), indices.shape[1], -1)
            scores[:, :, :depth] -= np.where(votes > 1, self.majority_weight * votes / depth, 0.0)
        return scores


def _occurrences(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Say how often each value stands in its row of [Q,M]."""
    order = np.argsort(values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    starts = np.ones(ranked.shape, dtype=np.bool_)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    group = np.cumsum(starts.ravel()) - 1  # every row begins a new group
    counts = np.bincount(group)[group].reshape(values.shape)
    out = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(out, order, counts, axis=1)
    return out
