"""Batches of decoded images, in order, from worker processes."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vgbench.data.decode import decode_image, fitted, read_pixels
from vgbench.data.image_file import quiet
from vgbench.data.table import ImageTable
from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

T = TypeVar("T")

# (table, rows int64 [B]) -> their images uint8 [B,3,H,W], or what stands in their place.
Read = Callable[[ImageTable, NDArray[np.int64]], Tensor]

_SHARED = "/dev/shm"
_SHARED_A_WORKER = 128 * 2**20  # a few batches of each are on their way
MOST_PROCESSES = 8
_READ_AT_ONCE = 16  # images that threads have read and that are not resized yet


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(requested: int, tasks: int) -> int:
    """Return how many processes to start for `tasks` pieces of work: no more than asked for, cores, or pieces."""
    return max(0, min(requested, _cores(), tasks))


def decoding_processes() -> int:
    """Return how many processes decode where nobody says: 8 beside a GPU; else a quarter of 8 cores or more, or 0.

    On a CPU the network has work for every core. Processes that decode beside it on few of them take its time and a
    hundred megabytes each; without them, the main one decodes a batch with all of its threads.
    """
    if torch.cuda.is_available():
        return MOST_PROCESSES
    cores = _cores()
    return min(MOST_PROCESSES, cores // 4) if cores >= 8 else 0


def within_shared_memory(workers: int) -> int:
    """Return how many of some processes the shared memory has space for, through which their batches travel.

    Where it is full they would wait forever: containers often have 64 MB (`docker run --shm-size=8g` gives more).
    """
    try:
        found = os.statvfs(_SHARED)
    except (OSError, AttributeError):  # another system, with another way
        return workers
    fitting = min(workers, found.f_bavail * found.f_frsize // _SHARED_A_WORKER)
    if fitting < workers:
        LOG.warning("%s: has space for %d of %d decoding processes; give it 8 GB, say", _SHARED, fitting, workers)
    return fitting


@dataclass(frozen=True)
class _Failure:
    message: str


def _as_made(batch: T) -> T:
    return batch


class Batches(Dataset[Any], ABC, Generic[T]):
    """Numbered batches, each made whole by one worker."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def make(self, index: int) -> T:
        """Return one batch; may raise UserError."""

    def __getitem__(self, index: int) -> T | _Failure:
        try:
            return self.make(index)
        except UserError as error:
            # torch would wrap an exception of a worker in the worker's traceback; a message travels as it is.
            return _Failure(str(error))


class BatchLoader(DataLoader[Any], Generic[T]):
    """A DataLoader over `Batches`, in order; a worker's UserError is raised here with its own one-line message."""

    def __init__(self, batches: Batches[T], num_workers: int, pin_memory: bool | None = None) -> None:
        workers = within_shared_memory(worker_count(num_workers, len(batches)))
        order = _Order(len(batches))
        super().__init__(
            batches,
            batch_size=None,
            sampler=order,
            collate_fn=_as_made,
            num_workers=workers,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
            # Forked workers share the tables' memory; the default of newer Pythons would copy them to each.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            # Its own generator, so that making an iterator leaves torch's global one alone.
            generator=torch.Generator(),
            worker_init_fn=_leave_signals,
        )
        self._order = order

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, _Failure):
                raise UserError(batch.message)
            yield batch

    def after(self, done: int) -> Iterator[T]:
        """Yield the batches after the first `done`, which are not made."""
        self._order.start = done
        try:
            yield from self
        finally:
            self._order.start = 0


@dataclass
class _Order:
    """The numbers of batches, from one of them on."""

    count: int
    start: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.count))


def _leave_signals(worker: int) -> None:
    """Let a decoding process go on where all processes of a job are told to end: the main one first ends its step."""
    del worker
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1})


def decode_batch(table: ImageTable, rows: NDArray[np.int64], size: tuple[int, int] | None) -> Tensor:
    """Decode some images of a table.

    Args:
        table: where they are.
        rows: int64 [B].
        size: height and width in pixels, or None for the images' own, which must then be the same.

    Returns:
        uint8 [B,3,H,W].

    Raises:
        UserError: an image cannot be read, or sizes differ.
    """
    return decode_images([table.path(int(row)) for row in rows], size, upright=table.upright)


def decode_images(paths: Sequence[Path | str], size: tuple[int, int] | None, *, upright: bool = False) -> Tensor:
    """Decode images of one size, as `decode_image` does, into uint8 [B,3,H,W]; raises as `decode_batch`.

    The main process reads with as many threads as it computes with, a process that decodes with one.
    """
    threads = 1 if get_worker_info() is not None else worker_count(torch.get_num_threads(), len(paths))
    if threads <= 1:
        return stack_images([decode_image(path, size, upright=upright) for path in paths])
    images: list[Tensor] = []
    with quiet(), ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(paths), _READ_AT_ONCE):
            some = paths[start : start + _READ_AT_ONCE]
            read = pool.map(functools.partial(read_pixels, size=size, upright=upright), some)
            images += [fitted(pixels, size) for pixels in read]
    return stack_images(images)


def stack_images(images: list[Tensor]) -> Tensor:
    """Stack images [3,H,W] into [B,3,H,W]; raises UserError if their sizes differ."""
    _check_one_size(images)
    return torch.stack(images)


def joined(*batches: Tensor) -> Tensor:
    """Join batches [B,...] of images or features into one; raises UserError if their sizes differ."""
    given: tuple[Any, ...] = batches
    if not isinstance(given[0], Tensor):
        from vgbench.data.encoded import joined_encoded  # which imports this

        return joined_encoded(given)
    _check_one_size([batch[0] for batch in batches])
    return torch.cat(batches)


def _check_one_size(images: Sequence[Tensor]) -> None:
    if len({image.shape for image in images}) > 1:
        sizes = sorted({f"{image.shape[1]}x{image.shape[2]}" for image in images})
        raise UserError(
            f"images of several sizes in one batch ({', '.join(sizes[:3])}). Expected one size; use --resize"
        )


class _ImageBatches(Batches[tuple[Tensor, Tensor]]):
    def __init__(self, table: ImageTable, rows: NDArray[np.int64], read: Read, batch_size: int) -> None:
        self.table, self.rows, self.read, self.batch_size = table, rows, read, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def make(self, index: int) -> tuple[Tensor, Tensor]:
        rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        return self.read(self.table, rows), torch.from_numpy(rows.copy())


def image_loader(
    table: ImageTable,
    rows: NDArray[np.int64],
    *,
    size: tuple[int, int] | None,
    batch_size: int,
    num_workers: int,
    read: Read | None = None,
) -> BatchLoader[tuple[Tensor, Tensor]]:
    """Yield the images of some rows, in the order given, the last batch kept.

    Args:
        table: where the images are.
        rows: int64 [M] into the table.
        size: height and width in pixels, or None for the images' own (they must then be the same within a batch).
        batch_size: images per batch.
        num_workers: processes that decode, at most the machine's cores; 0 decodes in this process.
        read: what reads rows of the table; None: `decode_batch` at that size.

    Returns:
        A DataLoader of (uint8 [B,3,H,W], int64 [B] rows), pinned where there is a GPU.

    Raises:
        UserError: while iterating, the first image that cannot be read.
    """
    read = read or functools.partial(decode_batch, size=size)
    return BatchLoader(_ImageBatches(table, np.asarray(rows, np.int64), read, batch_size), num_workers)
