"""What a re-ranker is, and what it may look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vgbench.data.protocol import Split
from vgbench.models.network import Network
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Inference, Runtime


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
    """

    split: Split
    database: Descriptors
    queries: Descriptors
    network: Network | None
    options: RerankOptions
    inference: Inference
    cache: Path

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels that the network saw."""
        return self.inference.fixed_size

    @property
    def runtime(self) -> Runtime:
        """The device and precision."""
        return self.inference.runtime


class Reranker(Protocol):
    """What the chain asks of a method; it is made without arguments, once a run.

    Where it has one, `check(network, options, runtime)` is called before anything is extracted, and raises UserError
    for what cannot run. Where it has them, the chain also reads `preparing_s`, the seconds of the last call that a
    second call would not spend (features that are kept), `files`, what it wrote for a report: name -> path, and
    `context`, what the re-rankers after it are given (other descriptors).

    Attributes:
        bytes_per_image: what it keeps of a database image beside the descriptor, known after the call.
    """

    bytes_per_image: float

    def __call__(self, predictions: Predictions, context: RerankContext) -> Predictions:
        """Return predictions of the same shape, best first.

        Their `distances` are what the method orders by, the smaller the better, never falling along a row.
        """
