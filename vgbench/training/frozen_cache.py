"""Features of the layers that are not trained, computed once and read ever after, in mining and in every step."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vgbench import parallel
from vgbench.data import ImageTable
from vgbench.files import check_space, is_file
from vgbench.models import Network
from vgbench.models.frozen import FrozenPart
from vgbench.quantities import bytes_text
from vgbench.retrieval.extraction.extract import Count, StoredForm, extract, extraction_fingerprint
from vgbench.retrieval.extraction.store import DTYPES, StoredRows
from vgbench.retrieval.extraction.writer import begun_bytes
from vgbench.runtime import Inference
from vgbench.training.modes.around import ModeAround
from vgbench.training.modes.base import BatchT, Forward, Round, TrainingMode

LOG = logging.getLogger(__name__)
_REMEDY = "name a folder on another disk with --frozen_folder, or leave --cache_frozen out"


@runtime_checkable
class Looks(Protocol):
    """A way to train that says which tables of images it looks at."""

    @property
    def tables(self) -> Sequence[ImageTable]: ...


@dataclass
class FrozenCache:
    """Files of features, one a table of images, in a folder.

    `read` takes the place of decoding for tables that `prepare` has been called with.

    Args:
        part: the layers whose features they are.
        folder: where the files are; named by what the features depend on, so that other runs may share it.
    """

    part: FrozenPart
    folder: Path
    _files: dict[str, StoredRows] = field(default_factory=dict)

    def bytes_of(self, tables: Sequence[ImageTable]) -> int:
        """Return how many bytes the features of some tables take."""
        return sum(map(len, tables)) * int(torch.Size(self.part.shape).numel()) * DTYPES[self.part.stored].itemsize

    def check_space(self, tables: Sequence[ImageTable], paths: Sequence[Path] = ()) -> None:
        """Raise UserError where the features of some tables, less what is there of their files, will not fit."""
        need = self.bytes_of(tables) - sum(_size(path) + begun_bytes(path) for path in paths)
        parallel.on_main(lambda: check_space(self.folder / "frozen.h5", max(0, need), _REMEDY))

    def prepare(self, network: Network, tables: Sequence[ImageTable], inference: Inference) -> None:
        """Compute what is not there yet: weights and images must stay as they are from now on.

        An interrupted computation goes on where it stood.

        Args:
            network: whose frozen layers are run, in their fast form for inference.
            inference: size, batches, processes and precision.

        Raises:
            UserError: the disk has no space, an image cannot be read, or a feature is not finite.
        """
        inference = dataclasses.replace(inference, read=None)
        first, weights = self.part.first(network), self.part.weights(network)
        form = StoredForm(self.part.stored)
        for table in tables:
            fingerprint = extraction_fingerprint(first, table, inference, form, weights)
            path = self.folder / f"frozen-{fingerprint[:16]}.h5"
            self.check_space([table], [path])
            if not is_file(path):
                LOG.info("%s: features of %d images, %s", path, len(table), bytes_text(self.bytes_of([table])))
            with tqdm(total=len(table), desc="frozen layers", unit="img", leave=False, disable=None) as bar:
                count = Count(bar.update, bar.update)
                found = extract(first, table, path, inference, form=form, count=count, fingerprint=fingerprint)
            with found:
                rows = found.stored_rows()
            assert rows is not None, "this program writes them in one piece"
            self._files[str(table.root)] = rows

    def read(self, table: ImageTable, rows: NDArray[np.int64]) -> Tensor:
        """Return the features [B,...] of some rows of a table, int64 [B]."""
        return self.part.unrolled(self._files[str(table.root)].read(rows))


def _size(path: Path) -> int:
    return path.stat().st_size if is_file(path) else 0


class CachedMode(ModeAround[BatchT]):
    """A TrainingMode around another, whose batches are features; the layers that make them run once.

    Args:
        mode: the way to train, whose `inference.read` is the cache's.
        cache: of its images.
        inference: how its images are described.
    """

    def __init__(self, mode: TrainingMode[BatchT], cache: FrozenCache, inference: Inference) -> None:
        super().__init__(mode)
        self.cache, self.inference = cache, inference
        self._rest: tuple[Network, Network] | None = None
        self._prepared = False

    @property
    def tables(self) -> Sequence[ImageTable]:
        """All images that it looks at."""
        return cast(Looks, self.mode).tables

    def learner(self, network: Network) -> Network:
        """Return the layers of a network that see the batches, which it shares with them."""
        if self._rest is None or self._rest[0] is not network:
            self._rest = network, self.cache.part.rest(network)
        return self._rest[1]

    def round(self, network: Network, epoch: int, index: int) -> Round[BatchT]:
        """Prepare the inner mode's round with the layers that are trained; the first one computes the features."""
        if not self._prepared:
            # Not before: only now has an interrupted run its weights.
            self.cache.prepare(network, self.tables, self.inference)
            self._prepared = True
        return self.mode.round(self.learner(network), epoch, index)

    def loss(self, forward: Forward, batch: BatchT, generator: torch.Generator) -> Tensor:
        """Return the inner mode's loss."""
        return self.mode.loss(forward, batch, generator)

    def summary(self) -> str:
        """Return one line for the log."""
        count, size = self.cache.part.count, bytes_text(self.cache.bytes_of(self.tables))
        return (
            f"{self.mode.summary()}; the first {count} steps of the backbone are not trained: run once, in eval mode "
            f"(BatchNorm by its running statistics), their features kept on disk, {size}"
        )
