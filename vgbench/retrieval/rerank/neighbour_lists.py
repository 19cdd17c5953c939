"""The nearest neighbours of those database images and queries that are needed, searched when they are first asked for.

Nodes are numbered database first: node i < N is database row i, node N + j is query j.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.rerank.base import Search

_PAIR_BYTES = 64 * 2**20
_SEARCH_BYTES = 256 * 2**20  # descriptors of nodes that are searched with at once


@dataclass(eq=False)
class NeighbourLists:
    """Lists of the `count` nearest nodes of a node, itself first, then by distance and number.

    Attributes:
        database: [N,D].
        queries: [Q,D], nodes too; None for a graph of the database alone.
        search: how they are searched for.
        joint: whether queries stand in others' lists; if not, a list holds the node itself and database images.
        count: length of a list, itself included; shorter where there are fewer nodes.
    """

    database: Descriptors
    queries: Descriptors | None
    count: int
    search: Search
    joint: bool = False
    _place: NDArray[np.int64] = field(init=False)
    _lists: NDArray[np.int64] = field(init=False)
    _distances: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.count = min(self.count, self.nodes if self.joint else len(self.database))
        self._place = np.full(self.nodes, -1, np.int64)
        self._lists = np.empty((0, self.count), np.int64)
        self._distances = np.empty((0, self.count), np.float32)

    @property
    def nodes(self) -> int:
        return len(self.database) + (0 if self.queries is None else len(self.queries))

    def of(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lists of some nodes: int64 [..., count] for int64 [...]."""
        self._ensure(nodes)
        return np.asarray(self._lists[self._place[nodes]])

    def distances_of(self, nodes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the Euclidean distances that belong to `of`: float32 [..., count]."""
        self._ensure(nodes)
        return np.asarray(self._distances[self._place[nodes]])

    def vectors(self, nodes: NDArray[np.int64]) -> torch.Tensor:
        """Return the descriptors of some nodes, int64 [M], as float32 [M,D] on the CPU."""
        own = nodes < len(self.database)
        if self.queries is None or own.all():
            return self.database.rows(nodes).float()
        out = torch.empty((len(nodes), self.database.shape[1]))
        out[torch.from_numpy(own)] = self.database.rows(nodes[own]).float()
        out[torch.from_numpy(~own)] = self.queries.rows(nodes[~own] - len(self.database)).float()
        return out

    def dissimilarity(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return |a - b|^2 / (|a|^2 + |b|^2) of pairs of nodes, float64 [M]: one minus the cosine for unit vectors."""
        out = np.empty(len(left))
        step = max(1, _PAIR_BYTES // (16 * self.database.shape[1]))
        for start in range(0, len(left), step):
            part = slice(start, start + step)
            a, b = self.vectors(left[part]).double(), self.vectors(right[part]).double()
            norms = a.square().sum(1) + b.square().sum(1)
            out[part] = ((a - b).square().sum(1) / norms.clamp_min(1e-30)).numpy()
        return out

    def _ensure(self, nodes: NDArray[np.int64]) -> None:
        wanted = np.unique(nodes)
        missing = wanted[self._place[wanted] < 0]
        if len(missing) == 0:
            return
        step = max(1, _SEARCH_BYTES // (4 * self.database.shape[1]))
        found = [self._search(missing[start : start + step]) for start in range(0, len(missing), step)]
        self._place[missing] = len(self._lists) + np.arange(len(missing))
        self._lists = np.concatenate([self._lists, *(lists for lists, _ in found)])
        self._distances = np.concatenate([self._distances, *(distances for _, distances in found)])

    def _search(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        asked = InMemory(self.vectors(nodes), self.database.path)
        parts = [self.search(self.database, asked, self.count)]
        indices, distances = [parts[0].indices], [parts[0].distances]
        if self.queries is not None and self.joint:
            found = self.search(self.queries, asked, self.count)
            indices.append(found.indices + len(self.database))
            distances.append(found.distances)
        near, apart = np.concatenate(indices, axis=1), np.concatenate(distances, axis=1)
        own = near == nodes[:, None]
        # One that has many twins is not among its own nearest: it takes the place of the last of them.
        own[~own.any(axis=1), -1] = True
        near[own], apart[own] = nodes, -1
        order = np.lexsort((near, apart), axis=1)[:, : self.count]
        near, apart = np.take_along_axis(near, order, axis=1), np.take_along_axis(apart, order, axis=1)
        apart[:, 0] = 0
        return near, apart
