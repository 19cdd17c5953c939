"""Candidates of an approximate search, scored again exactly from the descriptors' file."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.exact import search
from vgbench.runtime import Runtime

_PAIRS_BYTES = (2**21, 2**27)  # of one round of differences: in a CPU's cache; on a GPU
_QUERIES_AT_ONCE, _ROWS_BYTES = 64, 2**26


def refine(
    database: Descriptors, queries: Descriptors, candidates: NDArray[np.int64], k: int, runtime: Runtime
) -> Predictions:
    """Order candidates by their Euclidean distance, computed from the stored values, and keep k.

    Args:
        candidates: int64 [Q,C], database rows, C >= k; -1 where there is none.
        k: predictions per query.
    """
    indices = np.empty((len(queries), k), dtype=np.int64)
    distances = np.empty((len(queries), k), dtype=np.float32)
    at_once = max(1, min(_QUERIES_AT_ONCE, _ROWS_BYTES // (4 * database.shape[1] * max(1, candidates.shape[1]))))
    for first in range(0, len(queries), at_once):
        part = slice(first, first + at_once)
        found = np.sort(candidates[part], axis=1)  # equal distances then come in order of row
        squared = _squared(database, queries.read(first, first + at_once), np.maximum(found, 0), runtime)
        squared[found < 0] = np.inf
        order = np.argsort(squared, axis=1, kind="stable")[:, :k]
        indices[part] = np.take_along_axis(found, order, axis=1)
        distances[part] = np.sqrt(np.take_along_axis(squared, order, axis=1))
    return Predictions(indices, distances)


def complete(
    found: Predictions, database: Descriptors, queries: Descriptors, backend: str, runtime: Runtime
) -> Predictions:
    """Search exactly for the queries that an index gave fewer predictions than were asked for (-1)."""
    short = np.flatnonzero((found.indices < 0).any(axis=1))
    if len(short):
        exact = search(database, InMemory.of(queries, short), found.indices.shape[1], backend, runtime)
        found.indices[short], found.distances[short] = exact.indices, exact.distances
    return found


@torch.inference_mode()
def _squared(
    database: Descriptors, queries: Tensor, candidates: NDArray[np.int64], runtime: Runtime
) -> NDArray[np.float64]:
    """Return squared distances float64 [B,C] of each query [B,D] to its own candidates int64 [B,C]."""
    rows, which = np.unique(candidates, return_inverse=True)
    vectors = database.rows(rows).to(runtime.device).float()
    asked = queries.to(runtime.device).float()
    places = torch.from_numpy(which.reshape(-1)).to(runtime.device)
    owners = torch.arange(len(asked), device=runtime.device).repeat_interleave(candidates.shape[1])
    out = torch.empty(len(places), dtype=torch.float64, device=runtime.device)
    step = max(1, _PAIRS_BYTES[runtime.device.type == "cuda"] // (4 * vectors.shape[1]))
    for start in range(0, len(places), step):
        part = slice(start, start + step)
        # Differences of float32 are nearly exact; only their sum needs more digits.
        out[part] = (vectors[places[part]] - asked[owners[part]]).square_().sum(1, dtype=torch.float64)
    return out.view(candidates.shape).cpu().numpy()
