"""Mutual nearest neighbours among local descriptors."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
import torch
from numpy.typing import NDArray

from vgbench.retrieval.rerank.local.features import LocalFeatures, Matches
from vgbench.runtime import Runtime


class NearestMatcher:
    """Mutual nearest neighbours, and with Lowe's ratio test (2004) where `ratio` is below 1.

    Args:
        ratio: bound on the nearest distance over the second nearest, both Euclidean; 1 for none.
        runtime: the device.
    """

    def __init__(self, ratio: float, runtime: Runtime) -> None:
        self._ratio, self._device = ratio, runtime.device

    def __call__(self, query: LocalFeatures, candidates: list[LocalFeatures], pool: Executor) -> list[Matches]:
        """Match one query with its candidates, in parallel on a CPU, in one batched product on a GPU."""
        if self._device.type == "cpu":
            vectors = query.vectors()
            return list(pool.map(lambda one: self._on_cpu(vectors, one.vectors()), candidates))
        return self._batched(query, candidates)

    def _on_cpu(self, query: NDArray[np.float32], candidate: NDArray[np.float32]) -> Matches:
        if not len(query) or not len(candidate):
            return np.empty((0, 2), np.int64)
        # NumPy's argmax and column maxima are several times faster than torch's on a CPU.
        similarity = query @ candidate.T
        nearest = similarity.argmax(axis=1)
        rows = np.arange(len(query))
        best = similarity[rows, nearest]
        good = best == similarity.max(axis=0)[nearest]
        if self._ratio < 1 and len(candidate) > 1:
            similarity[rows, nearest] = -2
            good &= _passes(best, similarity.max(axis=1), self._ratio)
        return np.stack([rows[good], nearest[good]], axis=1)

    def _batched(self, query: LocalFeatures, candidates: list[LocalFeatures]) -> list[Matches]:
        most = max((len(one) for one in candidates), default=0)
        if not len(query) or not most:
            return [np.empty((0, 2), np.int64) for _ in candidates]
        vectors = torch.from_numpy(query.vectors()).to(self._device)
        padded = np.zeros((len(candidates), most, vectors.shape[1]), np.float32)
        for number, one in enumerate(candidates):
            padded[number, : len(one)] = one.vectors()
        counts = torch.tensor([len(one) for one in candidates], device=self._device)
        similarity = vectors @ torch.from_numpy(padded).to(self._device).transpose(1, 2)
        beyond = torch.arange(most, device=self._device) >= counts[:, None]
        similarity.masked_fill_(beyond[:, None], -2)
        best, nearest = similarity.max(2)
        good = best == similarity.amax(1).gather(1, nearest)
        if self._ratio < 1 and most > 1:
            second = similarity.scatter_(2, nearest[:, :, None], -2).amax(2)
            good &= ((2 - 2 * best) <= self._ratio**2 * (2 - 2 * second)) | (counts[:, None] < 2)
        good &= (counts > 0)[:, None]
        which, rows = good.nonzero(as_tuple=True)
        pairs = torch.stack([rows, nearest[which, rows]], dim=1).cpu().numpy()
        bounds = torch.bincount(which, minlength=len(candidates)).cumsum(0)[:-1].cpu().numpy()
        return list(np.split(pairs, bounds))


def _passes(best: NDArray[np.float32], second: NDArray[np.float32], ratio: float) -> NDArray[np.bool_]:
    """Squared distances of unit vectors are 2 - 2 times their product."""
    return np.asarray((2 - 2 * best) <= ratio**2 * (2 - 2 * second))
