"""Batches of training triplets, each distinct image decoded once a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench import parallel
from vgbench.data.loader import Batches, BatchLoader, Read, decode_images, joined
from vgbench.data.protocol import Split
from vgbench.data.sequences import SequenceTable
from vgbench.data.table import ImageTable
from vgbench.data.translated import TranslatedViews


@dataclass(frozen=True, eq=False)
class Triplets:
    """T training triplets as rows of a split's tables.

    Attributes:
        query: int64 [T], rows of the queries.
        positive: int64 [T], rows of the database.
        negatives: int64 [T,N], rows of the database.
    """

    query: NDArray[np.int64]
    positive: NDArray[np.int64]
    negatives: NDArray[np.int64]

    def __post_init__(self) -> None:
        total = len(self.query)
        if self.query.shape != (total,) or self.positive.shape != (total,):
            raise ValueError("query and positive must both be [T]")
        if self.negatives.ndim != 2 or len(self.negatives) != total:
            raise ValueError("negatives must be [T,N]")

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True, eq=False)
class TripletBatch:
    """B triplets over U distinct images, or over the frames of distinct sequences.

    Attributes:
        images: uint8 [U,3,H,W].
        is_query: bool [U].
        query: int64 [B], indices into `images`.
        positive: int64 [B], indices into `images`.
        negatives: int64 [B,N], indices into `images`.
        of: triplets of the training step that these are of; more than B where several ranks share it, 0 for B.
        length: frames of a sequence, where triplets are of those: U images are then U / length sequences, one after the
            other, and `query`, `positive` and `negatives` are indices of sequences; 0 of images.
    """

    images: Tensor
    is_query: Tensor
    query: Tensor
    positive: Tensor
    negatives: Tensor
    of: int = 0
    length: int = 0

    @property
    def units(self) -> Tensor:
        """What is described as one: images [U,3,H,W], or sequences [U / length,length,3,H,W]."""
        return self.images if self.length == 0 else self.images.view(-1, self.length, *self.images.shape[1:])

    @property
    def step_size(self) -> int:
        """How many triplets the step has, over all ranks."""
        return self.of or len(self)

    def to(self, device: torch.device | str) -> TripletBatch:
        """Return the batch on a device; from pinned memory the copy does not wait."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> TripletBatch:
        """Return the batch in pinned memory (DataLoader calls this)."""
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self, change: Callable[[Tensor], Tensor]) -> TripletBatch:
        return TripletBatch(
            images=change(self.images),
            is_query=change(self.is_query),
            query=change(self.query),
            positive=change(self.positive),
            negatives=change(self.negatives),
            of=self.of,
            length=self.length,
        )

    def __len__(self) -> int:
        return len(self.query)


class _TripletBatches(Batches[TripletBatch]):
    def __init__(
        self,
        split: Split,
        triplets: Triplets,
        size: tuple[int, int] | None,
        batch_size: int,
        drop_last: bool,
        instead: TranslatedViews | Read | None,
    ) -> None:
        self.split, self.triplets, self.size = split, triplets, size
        self.batch_size, self.drop_last = batch_size, drop_last
        self.views = instead if isinstance(instead, TranslatedViews) else None
        self.read = None if isinstance(instead, TranslatedViews) else instead
        self.rank, self.world = parallel.rank(), parallel.world()  # asked now, not in a worker process

    def __len__(self) -> int:
        total = len(self.triplets)
        return total // self.batch_size if self.drop_last else -(-total // self.batch_size)

    def make(self, index: int) -> TripletBatch:
        first = index * self.batch_size
        step_size = min(self.batch_size, len(self.triplets) - first)
        own = parallel.part(step_size, self.rank, self.world)
        chosen = slice(first + own.start, first + own.stop)
        query, negatives = self.triplets.query[chosen], self.triplets.negatives[chosen]
        database = np.concatenate([self.triplets.positive[chosen], negatives.ravel()])
        query_rows, query_index = np.unique(query, return_inverse=True)
        database_rows, database_index = np.unique(database, return_inverse=True)
        asked = self._images(self.split.queries, query_rows, index)
        images = joined(asked, self._images(self.split.database, database_rows, index))
        shifted = torch.from_numpy(database_index.reshape(-1) + len(query_rows))
        return TripletBatch(
            images=images,
            is_query=torch.arange(len(images)) < len(asked),
            query=torch.from_numpy(query_index.reshape(-1)),
            positive=shifted[: len(query)],
            negatives=shifted[len(query) :].reshape(negatives.shape),
            of=step_size,
            length=self.split.queries.members.shape[1] if isinstance(self.split.queries, SequenceTable) else 0,
        )

    def _images(self, table: ImageTable, rows: NDArray[np.int64], step: int) -> Tensor:
        if self.read is not None:
            if isinstance(table, SequenceTable):
                return self.read(table.frames, table.members[rows].ravel())
            return self.read(table, rows)
        return decode_images(self._paths(table, rows, step), self.size)

    def _paths(self, table: ImageTable, rows: NDArray[np.int64], step: int) -> list[Path]:
        if isinstance(table, SequenceTable):
            return [table.frames.path(int(frame)) for frame in table.members[rows].ravel()]
        if self.views is None:
            return [table.path(int(row)) for row in rows]
        return [self.views.path_of(table, int(row), (step,)) for row in rows]


def triplet_loader(
    split: Split,
    triplets: Triplets,
    *,
    size: tuple[int, int] | None,
    batch_size: int,
    num_workers: int,
    drop_last: bool = True,
    views: TranslatedViews | Read | None = None,
) -> BatchLoader[TripletBatch]:
    """Yield triplets with their images, in the order given.

    Args:
        split: whose images.
        triplets: rows of the split's tables.
        size: height and width in pixels, or None for the images' own (they must then be the same within a batch).
        batch_size: triplets a batch, which ranks share.
        num_workers: processes that decode, at most the machine's cores; 0 decodes in this process.
        drop_last: leave out a last batch of fewer triplets.
        views: translated versions that stand in for some of the images, at the position of these batches in the run; a
            batch adds its number. Or what reads rows of a table in the place of decoding them.

    Raises:
        UserError: while iterating, the first image that cannot be read.
    """
    return BatchLoader(_TripletBatches(split, triplets, size, batch_size, drop_last, views), num_workers)
