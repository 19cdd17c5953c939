"""HDF5 files that are there whole or not at all, also where the disk is full, and that say so by a checksum.

What a disk or a copy spoilt of a file that is kept for a later run is seen, and made again.
"""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vgbench.files import written_whole

LOG = logging.getLogger(__name__)

SEAL = "checksum"
_BLOCK_BYTES = 32 * 2**20
# What h5py raises of a file that is damaged, besides what a file that is missing something raises.
DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError)


@contextmanager
def written_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield a new HDF5 file, open to write; closed, it takes the place of `path`. A failure leaves `path` as it was.

    Raises:
        UserError: the file cannot be written (no space left, no permission).
    """
    with written_whole(path) as partial, changed_hdf5(partial, "w") as file:
        yield file


@contextmanager
def changed_hdf5(path: Path, mode: str = "r+") -> Iterator[h5py.File]:
    """Yield an HDF5 file, open to write in place; raises OSError, once it is closed, where something was not written.

    Args:
        mode: "r+" to change the file, "w" to make a new one.
    """
    with _Stream(path, mode) as stream:
        try:
            with h5py.File(stream, mode) as file:
                yield file
        except Exception:
            stream.check()  # what could not be written comes first, whatever HDF5 made of it
            raise
        stream.check()


class _Stream(io.FileIO):
    """A file that keeps the first failure of writing for `check`.

    HDF5 cannot close a file that it cannot write: it raises a RuntimeError, holds the file until the process ends, and
    can then end that by a segmentation fault. So it is never told.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, {"w": "w+", "r+": "r+"}[mode])
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise OSError if something could not be written."""
        if self._failure is not None:
            raise self._failure

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        try:
            done = 0
            while done < len(view) and self._failure is None:
                done += super().write(view[done:])
        except OSError as error:
            self._failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return size or 0


def seal(file: h5py.File) -> None:
    """Write the checksum of all datasets of a file that is complete."""
    file.attrs[SEAL] = np.uint32(checksum(file))


def is_sealed(file: h5py.File) -> bool:
    """Whether a file is as it was sealed; one of before there were seals is, where its numbers are finite.

    Raises:
        OSError, RuntimeError: it cannot be read.
    """
    if SEAL in file.attrs:
        return int(file.attrs[SEAL]) == checksum(file)
    return all(np.isfinite(block).all() for data in _datasets(file) if data.dtype.kind == "f" for block in blocks(data))


def warn_damaged(path: Path, reason: object = "its contents have changed") -> None:
    """Say that a file is made again."""
    LOG.warning("%s: damaged (%s); made again", path, " ".join(str(reason).split())[:200])


def checksum(file: h5py.File) -> int:
    """Return the CRC-32 of all datasets' bytes, in the order of their names."""
    value = 0
    for data in _datasets(file):
        for block in blocks(data):
            value = add_to_checksum(value, block)
    return value


def add_to_checksum(value: int, block: NDArray[Any]) -> int:
    """Return the checksum of what came before and of a block [...]."""
    return zlib.crc32(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data, value)


def blocks(data: h5py.Dataset, stop: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield the rows of a dataset, up to row `stop`, some megabytes at a time."""
    if data.ndim == 0:
        yield np.asarray(data[()])
        return
    rows = len(data) if stop is None else stop
    step = max(1, _BLOCK_BYTES // max(1, data.nbytes // max(1, len(data))))
    for first in range(0, rows, step):
        yield data[first : min(first + step, rows)]


def _datasets(file: h5py.File) -> list[h5py.Dataset]:
    return [file[name] for name in sorted(file) if isinstance(file[name], h5py.Dataset)]
