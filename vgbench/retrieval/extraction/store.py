"""Descriptors on disk: one HDF5 file, read in blocks.

The file holds one contiguous dataset, so a block of rows is one sequential read of exactly its own bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench.errors import UserError
from vgbench.files import is_file
from vgbench.hdf5 import DAMAGED, is_sealed, warn_damaged

LOG = logging.getLogger(__name__)

DATASET = "descriptors"
BLOCK_BYTES = 64 * 2**20  # large enough for sequential reads at full speed; two such blocks are in memory at once
_MAPPED_BYTES = 16 * 2**20  # of the file, at a time, where rows are picked
_TOUCHED_BYTES = 2**16  # Linux maps as many around a page that is read
DTYPES = {"float16": torch.float16, "float32": torch.float32}
_REMEDY = "delete the file and run again to describe the images anew"


@dataclass(frozen=True)
class StoredRows:
    """Where the rows of a file lie: plain values, which go into worker processes.

    Attributes:
        path: the file.
        offset: where they begin, in bytes; they follow one another.
        shape: rows and dimensions.
        dtype: of the values.
    """

    path: Path
    offset: int
    shape: tuple[int, int]
    dtype: torch.dtype

    def read(self, rows: NDArray[np.int64], dimensions: slice = slice(None)) -> Tensor:
        """Return some rows, int64 [M] in any order, as a new CPU tensor [M,d]; `dimensions`: only these of each."""
        out = torch.empty((len(rows), len(range(self.shape[1])[dimensions])), dtype=self.dtype)
        row_bytes = self.shape[1] * self.dtype.itemsize
        values, at_once = out.numpy(), max(1, _MAPPED_BYTES // max(_TOUCHED_BYTES, row_bytes))
        for start in range(0, len(rows), at_once):
            # Mapped anew again and again: pages of the file that were once touched count as this process's memory.
            mapped = np.memmap(self.path, values.dtype, "r", self.offset, self.shape)
            values[start : start + at_once] = mapped[:, dimensions][rows[start : start + at_once]]
        return out


class Descriptors:
    """Descriptors [N,D] (float16 or float32) in an HDF5 file, open for reading.

    Raises:
        UserError: there is no such file, or it is not a descriptor file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not is_file(self.path):
            raise UserError(f"{path}: no such descriptor file. Expected one written by train.py or eval.py")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise UserError(f"{path}: cannot be read as HDF5 ({error}). Expected descriptors; {_REMEDY}") from error
        try:
            self._data = checked_dataset(self._file, self.path)
        except UserError:
            self._file.close()
            raise
        self.shape: tuple[int, int] = self._data.shape
        self.dtype: torch.dtype = DTYPES[self._data.dtype.name]
        self.fingerprint = str(self._file.attrs.get("fingerprint", ""))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored descriptor."""
        return self.shape[1] * self.dtype.itemsize

    def read_into(self, start: int, out: Tensor) -> None:
        """Fill `out` [n,D] (contiguous, on the CPU, of the stored dtype) with rows start..start+n; raises UserError."""
        try:
            self._data.read_direct(out.numpy(), np.s_[start : start + len(out)])
        except OSError as error:
            raise UserError(
                f"{self.path}: rows {start} to {start + len(out)} cannot be read ({error}). "
                f"Expected {self.shape[0]} descriptors; {_REMEDY}"
            ) from error

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Return rows start..stop as a new CPU tensor [n,D] of the stored dtype."""
        start, stop, _ = slice(start, stop).indices(len(self))
        out = torch.empty((max(stop - start, 0), self.shape[1]), dtype=self.dtype)
        if len(out):
            self.read_into(start, out)
        return out

    def blocks(
        self, rows: int, start: int = 0, stop: int | None = None, pin_memory: bool = False
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (first row, [<=rows, D] CPU tensor) in order, reading the next block while this one is used.

        Two buffers are reused: a yielded tensor holds its rows only until the next one is asked for.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        starts = range(start, stop, rows)
        rows = min(rows, max(stop - start, 0))
        buffers = [
            torch.empty((rows, self.shape[1]), dtype=self.dtype, pin_memory=pin_memory)
            for _ in range(min(2, len(starts)))
        ]

        def fetch(number: int) -> Tensor:
            first = starts[number]
            block = buffers[number % 2][: min(rows, stop - first)]
            self.read_into(first, block)
            return block

        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            coming = reader.submit(fetch, 0) if starts else None
            for number, first in enumerate(starts):
                assert coming is not None
                block = coming.result()
                # The other buffer is free: its reader came back to ask for this block.
                coming = reader.submit(fetch, number + 1) if number + 1 < len(starts) else None
                yield first, block

    def rows(self, rows: NDArray[np.int64], dimensions: slice = slice(None)) -> Tensor:
        """Return some rows, int64 [M] in any order, as a new CPU tensor [M,d] of the stored dtype.

        Args:
            dimensions: only these of each.
        """
        stored = self.stored_rows()
        if stored is None:  # chunked, so by another program
            wanted, where = np.unique(rows, return_inverse=True)
            return torch.from_numpy(self._data[wanted, dimensions][where.reshape(-1)])
        return stored.read(rows, dimensions)

    def stored_rows(self) -> StoredRows | None:
        """Return where the rows lie in the file; None where they do not follow one another there."""
        offset = self._data.id.get_offset()
        return None if offset is None else StoredRows(self.path, offset, self.shape, self.dtype)

    def sample(self, count: int) -> Tensor:
        """Return float32 [count,D] on the CPU: rows spread evenly over the file, all of them where there are fewer."""
        count = min(count, len(self))
        return self.rows(np.arange(count, dtype=np.int64) * len(self) // max(count, 1)).float()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InMemory(Descriptors):
    """Some descriptors, held in memory, that search as those of a file do.

    Args:
        values: [N,D], float16 or float32, on the CPU.
        path: of the file that they are from, for messages.
        fingerprint: of what they are.
    """

    def __init__(self, values: Tensor, path: Path, fingerprint: str = "") -> None:
        self.path, self.fingerprint = path, fingerprint
        self.shape, self.dtype = (values.shape[0], values.shape[1]), values.dtype
        self._values = values

    @staticmethod
    def of(descriptors: Descriptors, rows: NDArray[np.int64]) -> InMemory:
        """Return some rows of a file, int64 [M]."""
        return InMemory(descriptors.rows(rows), descriptors.path, descriptors.fingerprint)

    def read_into(self, start: int, out: Tensor) -> None:
        # By numpy: `out` may have been made in inference mode, which a reading thread is not in.
        np.copyto(out.numpy(), self._values[start : start + len(out)].numpy())

    def blocks(
        self, rows: int, start: int = 0, stop: int | None = None, pin_memory: bool = False
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (first row, rows as they lie in memory); see `Descriptors.blocks`."""
        start, stop, _ = slice(start, stop).indices(len(self))
        for first in range(start, stop, rows):
            yield first, self._values[first : min(first + rows, stop)]

    def rows(self, rows: NDArray[np.int64], dimensions: slice = slice(None)) -> Tensor:
        return self._values[torch.from_numpy(rows), dimensions]

    def close(self) -> None:
        pass


def checked_dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    """Return the descriptors of an open file, float [N,D]; raises UserError where there are none, or not all."""
    data = file.get(DATASET)
    if not isinstance(data, h5py.Dataset):
        raise UserError(f"{path}: holds no dataset {DATASET!r}. Expected a descriptor file; {_REMEDY}")
    if data.ndim != 2 or data.dtype.name not in DTYPES:
        raise UserError(
            f"{path}: descriptors are {data.dtype} {list(data.shape)}. Expected float16 or float32 [N,D]; {_REMEDY}"
        )
    offset = data.id.get_offset()
    if offset is not None and offset + data.nbytes > path.stat().st_size:
        raise UserError(f"{path}: is cut short. Expected {data.nbytes} bytes of descriptors; {_REMEDY}")
    return data


def stored_fingerprint(path: Path) -> str | None:
    """Return the fingerprint of the whole and readable descriptor file at `path`, or None if there is none."""
    try:
        with Descriptors(path) as descriptors:
            return descriptors.fingerprint
    except UserError:
        return None


def is_reusable(path: Path, fingerprint: str, rows: int, dim: int, dtype: str) -> bool:
    """Whether a file holds the descriptors that are wanted, undamaged; says so where it is there and damaged.

    Args:
        fingerprint, rows, dim, dtype: of the descriptors.
    """
    if not is_file(path):
        return False
    try:
        with Descriptors(path) as found:
            if found.fingerprint != fingerprint:
                return False
            if found.shape != (rows, dim) or found.dtype != DTYPES[dtype]:
                warn_damaged(path, f"{found.shape} {found.dtype} instead of {(rows, dim)} {dtype}")
                return False
            whole = is_sealed(found._file)
    except (UserError, *DAMAGED) as error:
        warn_damaged(path, error)
        return False
    if not whole:
        warn_damaged(path)
    return whole
