"""Locks between processes: the system lets go of them when their holder ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def alone(path: Path, waiting: str | None) -> Iterator[None]:
    """Hold the lock file `path` for the body, after whoever holds it now.

    Args:
        waiting: said once where another process holds it; None: it is not waited for.

    Raises:
        OSError: the file cannot be made.
        filelock.Timeout: another process holds it, and it is not waited for.
    """
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            if waiting is None:
                raise
            LOG.info("%s", waiting)
            lock.acquire(poll_interval=0.2)
    except OSError as error:
        if isinstance(error, filelock.Timeout) or error.errno not in _NO_LOCKS:
            raise
        LOG.warning("%s: this file system has no locks; do not let two runs work here at once", path.parent)
    try:
        yield
    finally:
        # Whoever waits for a file that is gone makes another, so that none is left behind.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def alone_or_refused(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path` for the body, as `alone`; raises UserError(busy) where another process holds it."""
    lock = alone(path, None)
    try:
        lock.__enter__()
    except filelock.Timeout as error:
        raise UserError(busy) from error
    with contextlib.ExitStack() as stack:
        stack.push(lock)
        yield


def lock_file(descriptor: int, shared: bool = False) -> None:
    """Hold an open file until it is closed, as HDF5 does; BlockingIOError where another process or file object does.

    Args:
        shared: beside others that only share it.
    """
    try:
        import fcntl
    except ImportError:  # Windows has none
        return
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def held_file(path: Path) -> io.FileIO:
    """Open a file to write in place, new or old, and hold it until it is closed.

    Raises:
        BlockingIOError: another process or file object holds it.
        OSError: it cannot be opened.
    """
    file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    try:
        lock_file(file.fileno())
    except BaseException:
        file.close()
        raise
    return file
