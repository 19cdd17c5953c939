"""HDF5 files that are there whole or not at all, also where the disk is full."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from vgbench.files import written_whole


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
