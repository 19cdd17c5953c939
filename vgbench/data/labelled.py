"""Batches of labelled images: what training with places and with classes draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench import parallel
from vgbench.data.loader import Batches, BatchLoader, Read, decode_images
from vgbench.data.table import ImageTable
from vgbench.data.translated import TranslatedViews

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """B images and their labels.

    Attributes:
        images: uint8 [B,3,H,W].
        labels: int64 [B].
    """

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> LabelledBatch:
        """Return the batch on a device; from pinned memory the copy does not wait."""
        return LabelledBatch(self.images.to(device, non_blocking=True), self.labels.to(device, non_blocking=True))

    def pin_memory(self) -> LabelledBatch:
        """Return the batch in pinned memory (DataLoader calls this)."""
        return LabelledBatch(self.images.pin_memory(), self.labels.pin_memory())

    def __len__(self) -> int:
        return len(self.labels)


class _LabelledBatches(Batches[LabelledBatch]):
    def __init__(
        self,
        table: ImageTable,
        batches: Sequence[tuple[Rows, Rows]],
        size: tuple[int, int],
        views: TranslatedViews | None,
        position: tuple[str | int, ...],
        read: Read | None,
    ) -> None:
        self.table, self.batches, self.size, self.views, self.position = table, batches, size, views, position
        self.read = read

    def __len__(self) -> int:
        return len(self.batches)

    def make(self, index: int) -> LabelledBatch:
        rows, labels = self.batches[index]
        images = self._images(rows, index) if self.read is None else self.read(self.table, rows)
        return LabelledBatch(images, torch.from_numpy(labels.astype(np.int64)))

    def _images(self, rows: Rows, index: int) -> Tensor:
        if self.views is None:
            paths = [self.table.path(int(row)) for row in rows]
        else:
            paths = [self.views.path_of(self.table, int(row), (*self.position, index)) for row in rows]
        return decode_images(paths, self.size)


def own_part(batch: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
    """Return this rank's rows and labels of a batch that all ranks share."""
    part = parallel.share(len(batch[0]))
    return batch[0][part], batch[1][part]


def labelled_loader(
    table: ImageTable,
    batches: Sequence[tuple[Rows, Rows]],
    *,
    size: tuple[int, int],
    num_workers: int,
    views: TranslatedViews | None = None,
    position: tuple[str | int, ...] = (),
    read: Read | None = None,
) -> BatchLoader[LabelledBatch]:
    """Yield batches of images, in the order given.

    Args:
        table: where the images are.
        batches: rows of the table int64 [B] and their labels int64 [B], a pair a batch.
        size: height and width in pixels.
        num_workers: processes that decode, at most the machine's cores; 0 decodes in this process.
        views: where translated versions of images come from, if anywhere.
        position: where in the run this is (epoch, round), for `views`.
        read: what reads rows of the table in the place of decoding; None: they are decoded at that size.

    Raises:
        UserError: while iterating, the first image that cannot be read.
    """
    return BatchLoader(_LabelledBatches(table, batches, size, views, position, read), num_workers)
