"""What a teacher says of images: descriptors, computed once, kept beside its checkpoint, looked up by row."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vgbench.data import ImageTable
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.network_file import read_network_file
from vgbench.retrieval.extraction.extract import Count, StoredForm, extract, extraction_fingerprint
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.runtime import Inference
from vgbench.training.checkpoint import BEST

LOG = logging.getLogger(__name__)

_FITTED = 4096  # descriptors that a projection is fitted to
_ROUNDING = 1e-10  # of the largest eigenvalue: below it a direction is rounding


def read_teacher(path: Path, own: Collection[str] = ()) -> Network:
    """Return the network of a checkpoint or of a run's folder, in eval mode.

    Args:
        own: code outside this project, package.module:Class, that the user typed in this call.

    Raises:
        UserError: there is none, or the file does not say which network it holds.
    """
    file = path / BEST if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"--distill_from {path}: no such checkpoint. Expected one of train.py or of combine, or a run's folder; "
            "train the teacher first"
        )
    return read_network_file(file, own, name=f"--distill_from {path}").network().eval()


class Teaching:
    """A teacher's descriptors of the images of several tables, unit length, looked up by key.

    The key of image `row` of table `t` is its place in all tables, one after the other; with `mirrored`, the key of the
    image mirrored left to right is that plus `len(teaching)`.

    Args:
        path: the teacher's checkpoint, or a run's folder; descriptors are kept in `descriptors/` beside the checkpoint,
            and are taken from there where weights, images and preprocessing are the same.
        tables: the images.
        inference: how they are described.
        mirrored: describe each mirrored image too.
        own: code outside this project that the checkpoint may name.

    Raises:
        UserError: no such teacher; an image cannot be read; the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        tables: Sequence[ImageTable],
        inference: Inference,
        *,
        mirrored: bool = False,
        own: Collection[str] = (),
    ) -> None:
        network = read_teacher(path, own)
        inference.runtime.prepare(network)
        folder = (path if path.is_dir() else path.parent) / "descriptors"
        self.name, self.dim, self.mirrored = str(path), network.descriptors_dim, mirrored
        forms = [StoredForm(mirrored=flip) for flip in ((False, True) if mirrored else (False,))]
        self.files = [_described(network, table, folder, inference, form) for form in forms for table in tables]
        self._starts = np.cumsum([0, *map(len, self.files)])
        self._count = sum(map(len, tables))
        facts = " ".join(file.fingerprint for file in self.files)
        self.fingerprint = hashlib.sha256(facts.encode()).hexdigest()

    def __len__(self) -> int:
        return self._count

    def of(self, keys: NDArray[np.int64]) -> Tensor:
        """Return the descriptors float32 [M,D] of keys int64 [M], on the CPU."""
        out = torch.empty((len(keys), self.dim))
        files = np.searchsorted(self._starts, keys, side="right") - 1
        for number in np.unique(files):
            mine = np.flatnonzero(files == number)
            out[torch.from_numpy(mine)] = self.files[number].rows(keys[mine] - self._starts[number]).float()
        return F.normalize(out, dim=1)

    def projection(self, dim: int) -> Tensor | None:
        """Return the [D,dim] that keeps the similarities of the images best (Eckart and Young, 1936).

        That is, the first right singular vectors of the descriptors, whose mean is not taken away; of more than some
        thousand descriptors, an even sample. None where the teacher has no more than `dim` dimensions.
        """
        if self.dim <= dim:
            return None
        total = int(self._starts[-1])
        count = min(_FITTED, total)
        rows = self.of(np.arange(count, dtype=np.int64) * total // count).double()
        wide = len(rows) < self.dim
        values, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
        keep = torch.flip(torch.nonzero(values > _ROUNDING * values[-1])[:, 0], [0])[:dim]
        values, vectors = values[keep], vectors[:, keep]
        directions = (rows.T @ vectors) / values.sqrt() if wide else vectors
        return F.pad(directions, (0, dim - directions.shape[1])).float()


def _described(
    network: Network, table: ImageTable, folder: Path, inference: Inference, form: StoredForm
) -> Descriptors:
    fingerprint = extraction_fingerprint(network, table, inference, form)
    path = folder / f"distill-{fingerprint[:12]}.h5"
    with tqdm(total=len(table), desc=f"teacher, {table.root.name}", unit="img", leave=False, disable=None) as bar:
        return extract(network, table, path, inference, form=form, count=Count(bar.update), fingerprint=fingerprint)


def seen_at(inference: Inference, size: tuple[int, int] | None) -> Inference:
    """Return the inference at another size, height and width in pixels; None: as it is."""
    return inference if size is None else dataclasses.replace(inference, size=size)
