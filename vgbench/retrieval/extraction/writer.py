"""Writing descriptors so that an interruption loses a few seconds of work, and a full disk none of what was there.

While a file is being written it is called `<name>.partial`, beside `<name>.progress`, which says how many of its rows
are safely on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from torch import Tensor

from vgbench.errors import UserError, reason_of
from vgbench.files import alone, check_space, held_file, write_text
from vgbench.hdf5 import DAMAGED, SEAL, add_to_checksum, blocks, changed_hdf5, warn_damaged
from vgbench.retrieval.extraction.store import DATASET, DTYPES, Descriptors, checked_dataset

SYNC_SECONDS = 10.0  # how often progress is noted; each time waits for the disk, so that power may fail too


class DescriptorWriter:
    """Writes descriptors in order; continues an interrupted file whose fingerprint, shape and dtype are the same.

    Use as a context manager: leaving it normally with all rows written gives the file its name; leaving it by an
    exception keeps the partial file for the next attempt.

    Args:
        path: the finished file.
        rows, dim: the shape.
        dtype: "float32" or "float16".
        fingerprint: what the descriptors were made from.
        resume_multiple: continue at a multiple of this many rows. With the batch size, every batch holds the same
            images as in an uninterrupted run, so the finished bytes are the same.

    Raises:
        UserError: the file cannot be written (permissions, space, another process writing it).
    """

    def __init__(self, path: Path, rows: int, dim: int, dtype: str, fingerprint: str, resume_multiple: int = 1) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.progress = self.path.with_name(self.path.name + ".progress")
        self._shape, self._dtype = (rows, dim), dtype
        self._identity = {"rows": rows, "dim": dim, "dtype": dtype, "fingerprint": fingerprint}
        self._noted_at = time.monotonic()
        self.rows_done, self._checksum = self._found(resume_multiple)
        self._check_space()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # HDF5 writes the frame, and the rows are written past it: it cannot close a file whose rows found no room.
            self._rows = held_file(self.partial)
            if self.rows_done:
                self._offset = _offset(self.partial)
            else:
                self._offset = _create(self.partial, (rows, dim), dtype, fingerprint)
                self.progress.unlink(missing_ok=True)  # only now that no other run holds the file
        except BlockingIOError as error:
            raise self._cannot_write(error) from error
        except OSError as error:
            self._discard()
            raise self._cannot_write(error) from error

    def _check_space(self) -> None:
        """Raise UserError where the rows that are still to come will not fit on the disk."""
        half = "halve it by --descriptors_dtype float16" if self._dtype == "float32" else ""
        need = (self._shape[0] - self.rows_done) * self._shape[1] * DTYPES[self._dtype].itemsize
        check_space(self.path, max(0, need - (0 if self.rows_done else begun_bytes(self.path))), half)

    def _found(self, multiple: int) -> tuple[int, int]:
        """Return how many rows of an interrupted run are kept, and their checksum; 0 and 0 where none can be used."""
        try:
            noted = json.loads(self.progress.read_text())
            done, expected = noted.pop("done"), noted.pop("checksum")
            if noted != self._identity or not isinstance(done, int) or not 0 < done <= self._shape[0]:
                return 0, 0
            with h5py.File(self.partial, "r") as file:
                data = checked_dataset(file, self.partial)
                if data.shape != self._shape or data.dtype.name != self._dtype:
                    return 0, 0
                kept = done if done == self._shape[0] else done - done % multiple
                value = 0
                for block in blocks(data, kept):
                    value = add_to_checksum(value, block)
                if add_to_checksum(value, data[kept:done]) != expected:
                    warn_damaged(self.partial)
                    return 0, 0
                return kept, value
        except (UserError, RecursionError, *DAMAGED):
            return 0, 0  # nothing usable: start from the first row

    def write(self, descriptors: Tensor) -> None:
        """Append CPU descriptors [B,D] after the rows already written.

        Raises:
            UserError: a value is not finite in the stored dtype, or the disk is full.
        """
        start, stop = self.rows_done, self.rows_done + len(descriptors)
        block = descriptors.to(DTYPES[self._dtype]).numpy()
        if not np.isfinite(block).all():
            row = start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise UserError(
                f"{self.path.name}: the descriptor of row {row} is not finite in {self._dtype}. Expected "
                "finite numbers; try --amp off, or other weights"
            )
        try:
            self._rows.seek(self._offset + start * block.itemsize * self._shape[1])
            left = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
            while left:
                left = left[self._rows.write(left) :]
            self.rows_done, self._checksum = stop, add_to_checksum(self._checksum, block)
            if time.monotonic() - self._noted_at >= SYNC_SECONDS:
                self._note_progress()
        except OSError as error:
            raise self._cannot_write(error) from error

    def _note_progress(self) -> None:
        _sync(self.partial)
        write_text(self.progress, json.dumps({**self._identity, "done": self.rows_done, "checksum": self._checksum}))
        self._noted_at = time.monotonic()

    def _cannot_write(self, error: OSError) -> UserError:
        need = self._shape[0] * self._shape[1] * DTYPES[self._dtype].itemsize
        return UserError(
            f"{self.partial}: cannot be written ({reason_of(error)}). Expected a writable folder with "
            f"{need / 1e9:.2f} GB free that no other run writes to; free space, or take away what stands there"
        )

    def __enter__(self) -> DescriptorWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stop()
            return
        if self.rows_done != self._shape[0]:
            self._stop()
            raise RuntimeError(f"{self.path}: {self.rows_done} of {self._shape[0]} descriptors were written")
        try:
            self._finish()
        except OSError as failure:
            self._stop()
            raise self._cannot_write(failure) from failure

    def _stop(self) -> None:
        """Keep what a later run can go on from, and nothing else; raises nothing."""
        with contextlib.suppress(OSError, UserError):
            if self.rows_done:
                self._note_progress()
        self._rows.close()
        self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            if not self.progress.exists():
                self.partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        with changed_hdf5(self.partial) as file:
            file.attrs.modify(SEAL, np.uint32(self._checksum))
        self._rows.close()
        _sync(self.partial)
        self.partial.replace(self.path)
        self.progress.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_alone(path: Path) -> Iterator[None]:
    """Let only one process at a time write the file at `path`; another one waits, and then finds it there.

    Raises:
        UserError: the folder cannot be written.
    """
    lock = path.with_name(path.name + ".lock")
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone(lock, f"{path}: another run is writing it; waiting for that"))
        except OSError as error:
            raise UserError(
                f"{path.parent}: cannot be written ({error.strerror}). Expected a folder for descriptors; take away "
                "what stands there, or copy the checkpoint elsewhere"
            ) from error
        yield


def begun_bytes(path: Path) -> int:
    """Return what an interrupted run has left on the disk of the file at `path`."""
    try:
        found = path.with_name(path.name + ".partial").stat()
    except OSError:
        return 0
    return int(getattr(found, "st_blocks", 0)) * 512  # a file that is begun says it is longer than it is


def _create(path: Path, shape: tuple[int, int], dtype: str, fingerprint: str) -> int:
    """Make the file of all rows, none of them written; return where in it they begin, in bytes."""
    with changed_hdf5(path, "w") as file:
        space = h5py.h5s.create_simple(shape)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        # All metadata is on disk before the first row, so a kill while rows are written cannot spoil the file.
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout.set_obj_track_times(False)  # the same descriptors are the same bytes, whenever they were written
        data = h5py.h5d.create(file.id, DATASET.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, layout)
        file.attrs["fingerprint"] = fingerprint
        file.attrs[SEAL] = np.uint32(0)  # its place; its value when all rows are there
        return int(data.get_offset())


def _offset(path: Path) -> int:
    """Return where in the file the rows begin, in bytes."""
    with changed_hdf5(path) as file:
        return int(file[DATASET].id.get_offset())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_descriptors(path: Path, descriptors: Tensor, fingerprint: str) -> Descriptors:
    """Write a whole tensor [N,D] (float16 or float32, on the CPU) as a descriptor file and open it."""
    dtype = str(descriptors.dtype).removeprefix("torch.")
    rows, dim = descriptors.shape
    with DescriptorWriter(path, rows, dim, dtype, fingerprint) as writer:
        if writer.rows_done < len(descriptors):
            writer.write(descriptors[writer.rows_done :])
    return Descriptors(path)
