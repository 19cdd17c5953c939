"""Descriptors on disk: one HDF5 file, read in blocks, written so that an interruption loses a few seconds of work.

The file holds one contiguous dataset, so a block of rows is one sequential read of exactly its own bytes. While it is
being written it is called `<name>.partial`, beside `<name>.progress`, which says how many rows are safely on disk.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench.errors import UserError
from vgbench.files import is_file, write_text
from vgbench.locks import alone
from vgbench.retrieval.extraction.seal import DAMAGED, SEAL, add, blocks, is_sealed, warn_damaged

LOG = logging.getLogger(__name__)

DATASET = "descriptors"
BLOCK_BYTES = 64 * 2**20  # large enough for sequential reads at full speed; two such blocks are in memory at once
DTYPES = {"float16": torch.float16, "float32": torch.float32}
SYNC_SECONDS = 10.0  # how often progress is noted; each time waits for the disk, so that power may fail too
_REMEDY = "delete the file and run again to describe the images anew"


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
            self._data = _checked_dataset(self._file, self.path)
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
        """Fill `out` [n,D] (a contiguous CPU tensor of the stored dtype) with rows start..start+n."""
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

    def rows(self, rows: NDArray[np.int64]) -> Tensor:
        """Return some rows, int64 [M] in any order, as a new CPU tensor [M,D] of the stored dtype."""
        offset = self._data.id.get_offset()
        if offset is None:  # chunked, so by another program
            wanted, where = np.unique(rows, return_inverse=True)
            return torch.from_numpy(self._data[wanted][where.reshape(-1)])
        # Mapped anew each time: pages of the file that were once touched count as this process's memory.
        mapped = np.memmap(self.path, self._data.dtype, "r", offset, self.shape)
        return torch.from_numpy(np.asarray(mapped[rows]))

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

    def rows(self, rows: NDArray[np.int64]) -> Tensor:
        return self._values[torch.from_numpy(rows)]

    def close(self) -> None:
        pass


def _checked_dataset(file: h5py.File, path: Path) -> h5py.Dataset:
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
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.rows_done:
                self._file = h5py.File(self.partial, "r+")
            else:
                self._file = _create(self.partial, (rows, dim), dtype, fingerprint)
                self.progress.unlink(missing_ok=True)  # only now that no other run holds the file
            self._data = self._file[DATASET]
        except OSError as error:
            raise self._cannot_write(error) from error

    def _found(self, multiple: int) -> tuple[int, int]:
        """Return how many rows of an interrupted run are kept, and their checksum; 0 and 0 where none can be used."""
        try:
            noted = json.loads(self.progress.read_text())
            done, expected = noted.pop("done"), noted.pop("checksum")
            if noted != self._identity or not isinstance(done, int) or not 0 < done <= self._shape[0]:
                return 0, 0
            with h5py.File(self.partial, "r") as file:
                data = _checked_dataset(file, self.partial)
                if data.shape != self._shape or data.dtype.name != self._dtype:
                    return 0, 0
                kept = done if done == self._shape[0] else done - done % multiple
                value = 0
                for block in blocks(data, kept):
                    value = add(value, block)
                if add(value, data[kept:done]) != expected:
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
            self._data.write_direct(np.ascontiguousarray(block), dest_sel=np.s_[start:stop])
            self.rows_done, self._checksum = stop, add(self._checksum, block)
            if time.monotonic() - self._noted_at >= SYNC_SECONDS:
                self._note_progress()
        except OSError as error:
            raise self._cannot_write(error) from error

    def _note_progress(self) -> None:
        self._file.flush()
        _sync(self.partial)
        write_text(self.progress, json.dumps({**self._identity, "done": self.rows_done, "checksum": self._checksum}))
        self._noted_at = time.monotonic()

    def _cannot_write(self, error: OSError) -> UserError:
        need = self._shape[0] * self._shape[1] * DTYPES[self._dtype].itemsize
        return UserError(
            f"{self.partial}: cannot be written ({error}). Expected a writable folder with {need / 1e9:.2f} GB free "
            "that no other run writes to; free some space, or take away what stands there"
        )

    def __enter__(self) -> DescriptorWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with contextlib.suppress(OSError, UserError):  # what went wrong first is what the person should read
                if self.rows_done:
                    self._note_progress()
                self._file.close()
            return
        try:
            self._finish()
        except OSError as failure:
            raise self._cannot_write(failure) from failure

    def _finish(self) -> None:
        self._file.attrs.modify(SEAL, np.uint32(self._checksum))
        self._file.close()
        if self.rows_done != self._shape[0]:
            raise RuntimeError(f"{self.path}: {self.rows_done} of {self._shape[0]} descriptors were written")
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


def _create(path: Path, shape: tuple[int, int], dtype: str, fingerprint: str) -> h5py.File:
    file = h5py.File(path, "w")
    space = h5py.h5s.create_simple(shape)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    # All metadata is on disk before the first row, so a kill while rows are written cannot spoil the file.
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)  # the same descriptors are the same bytes, whenever they were written
    h5py.h5d.create(file.id, DATASET.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, layout)
    file.attrs["fingerprint"] = fingerprint
    file.attrs[SEAL] = np.uint32(0)  # its place; its value when all rows are there
    file.flush()
    return file


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
