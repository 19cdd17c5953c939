"""A checksum in every HDF5 file that is kept for a later run: what a disk or a copy spoilt is made again."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

LOG = logging.getLogger(__name__)

SEAL = "checksum"
_BLOCK_BYTES = 32 * 2**20
# What h5py raises of a file that is damaged, besides what a file that is missing something raises.
DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError)


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
            value = add(value, block)
    return value


def add(value: int, block: NDArray[Any]) -> int:
    """Return the checksum of what came before and of a block."""
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
