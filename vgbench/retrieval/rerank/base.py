"""What a re-ranker is, and what it may look at."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgbench.data.protocol import Split
from vgbench.data.table import ImageTable
from vgbench.models.network import Network
from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.searching.exact import search
from vgbench.runtime import Inference, Runtime

Search = Callable[[Descriptors, Descriptors, int], Predictions]
"""(database, queries, k) -> each query's k nearest database descriptors."""


@dataclass(frozen=True, eq=False)
class RerankContext:
    """What a re-ranker may look at.

    Attributes:
        split: the tables of images.
        database, queries: the descriptors that the search ran on, row by row as the tables.
        network: what made them, where there is one.
        options: of all re-rankers.
        inference: the size of the images that the network saw, processes that decode, device and precision.
        cache: a folder for what is worth keeping, such as local features; files there are named by what is in them.
        search: exact search as the first search's options say (backend, device, block size), for what searches again.
        part_of: where only some of a dataset's queries are re-ranked, the table of all and the rows of these in it, so
            that what is kept of images is kept once.
    """

    split: Split
    database: Descriptors
    queries: Descriptors
    network: Network | None
    options: RerankOptions
    inference: Inference
    cache: Path
    search: Search = search
    part_of: tuple[ImageTable, NDArray[np.int64]] | None = None

    def of_queries(self, rows: NDArray[np.int64]) -> RerankContext:
        """Return the same of some queries, int64 [n]."""
        queries = InMemory.of(self.queries, rows)
        queries.fingerprint += f"-{hashlib.sha256(rows.tobytes()).hexdigest()[:12]}"
        return dataclasses.replace(
            self,
            split=dataclasses.replace(self.split, queries=self.split.queries.select(rows)),
            queries=queries,
            part_of=(self.split.queries, rows),
        )

    @property
    def all_queries(self) -> tuple[ImageTable, NDArray[np.int64]]:
        """The table of all queries of the dataset, and the rows of these in it, int64 [Q]."""
        return self.part_of or (self.split.queries, np.arange(len(self.split.queries)))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels that the network saw."""
        return self.inference.fixed_size

    @property
    def runtime(self) -> Runtime:
        """The device and precision."""
        return self.inference.runtime


@dataclass(frozen=True, eq=False)
class Reranked:
    """What a re-ranker found, and what it cost.

    Attributes:
        predictions: of the same shape as those that it was given, best first. Their `distances` are what the method
            orders by, the smaller the better, never falling along a row.
        bytes_per_image: what is kept of a database image beside the descriptor.
        preparing_s: seconds that a second call would not spend (finding features that are kept, say).
        files: what was written for a report, name -> path.
        context: what the re-rankers after it are given (other descriptors, say); None for what it was given itself.
            A database that is not the given one is closed after the last re-ranker.
    """

    predictions: Predictions
    bytes_per_image: float = 0.0
    preparing_s: float = 0.0
    files: Mapping[str, Path] = field(default_factory=dict)
    context: RerankContext | None = None


class Reranker(ABC):
    """A method of the chain; it is made once a run and called once."""

    @staticmethod  # noqa: B027, optional
    def check(network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
        """Raise UserError for what cannot run; called before anything is extracted. By default everything can."""

    @abstractmethod
    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        """Return the predictions in their new order, and what that cost.

        Args:
            predictions: `indices` int64 [Q,K] and `distances` float32 [Q,K], best first.
        """
