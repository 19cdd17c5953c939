"""Files that are there whole or not at all, whatever interrupts their writing, and locks between processes.

The system lets go of a lock when its holder ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LONG_NAME = 240  # bytes; file systems take 255


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; what is there at the end takes the place of `path`.

    The folder is made where there is none. A failure leaves `path` as it was.

    Raises:
        UserError: the file cannot be written (no space left, no permission).
    """
    held = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, held = _own_partial(path)
        yield partial
        _put(partial, held, path)
    except BaseException as error:
        if held is not None:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            held.close()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise UserError(
                f"{path}: cannot be written ({reason}). Expected a writable folder with space left"
            ) from error
        raise


def _own_partial(path: Path) -> tuple[Path, io.FileIO]:
    """Return an empty file beside `path`, open, so that no other process or thread writes to it; raises OSError.

    What a process has left that was killed is taken; where one writes now, the next name is.
    """
    for number in range(1000):
        partial = _partial(path, number)
        held = _claimed(partial)
        if held is not None:
            return partial, held
    raise OSError(errno.EBUSY, "too many write it at once")


def _partial(path: Path, number: int) -> Path:
    name = os.fsencode(path.name)
    short = path.name if len(name) <= _LONG_NAME else hashlib.sha256(name).hexdigest()
    return path.with_name(f"{short}.{number}.partial" if number else f"{short}.partial")


def _claimed(partial: Path) -> io.FileIO | None:
    """Open a file and empty it, None where somebody else has it; raises OSError."""
    while True:
        try:
            held = held_file(partial)
        except BlockingIOError:
            return None
        try:
            if os.path.samestat(os.fstat(held.fileno()), partial.stat()):
                held.truncate(0)
                return held
        except FileNotFoundError:  # put into its place meanwhile
            pass
        except BaseException:
            held.close()
            raise
        held.close()


def _put(partial: Path, held: io.FileIO, path: Path) -> None:
    """Give a file that is whole its name; raises OSError."""
    if os.name == "nt":  # what is open cannot be renamed there
        held.close()
    else:
        with contextlib.suppress(OSError):
            lock_file(held.fileno(), shared=True)  # beside HDF5, as soon as somebody reads it
    partial.replace(path)
    held.close()
    left = _partial(path, 1)
    if left.exists():  # two wrote at once, and this one was killed
        with contextlib.suppress(OSError):
            claimed = _claimed(left)
            if claimed is not None:
                left.unlink(missing_ok=True)
                claimed.close()


# What a disk says that has no space for more: none at all, none of one's quota, none in files of this size.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SPACE_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full; C++ libraries say it in words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_SPACE
    return any(words in str(error) for words in _NO_SPACE_WORDS)


def check_space(path: Path, need: int, remedy: str) -> None:
    """Raise UserError now where something would not fit on its disk, rather than after the hours of making it.

    Args:
        path: a file or folder; where it is not made yet, the disk is that of the next folder above.
        need: bytes that will be written beyond what is there of it.
        remedy: what a person can do besides freeing space.
    """
    free = free_bytes(path.absolute().parent)
    if free is not None and need > free:
        raise UserError(
            f"{path}: needs {_gigabytes(need)}, but its disk has {_gigabytes(free)} left. Expected space for all "
            f"of it; free some space{f', or {remedy}' if remedy else ''}"
        )


def free_bytes(folder: Path) -> int | None:
    """Return how much its disk has left, asked of the next folder above that is there; None where nobody says."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e7 else f"{count / 1e6:,.2f} MB"


def is_file(path: Path) -> bool:
    """Whether there is a file that one may look at; never raises, whatever the name or the folder's permissions."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def check_writable(path: Path) -> None:
    """Raise UserError now where `path` could not be written later; its folder is made where there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}). Expected a writable folder") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole; file names that are no valid text keep their bytes. Raises as `written_whole` does."""
    with written_whole(path) as partial:
        partial.write_bytes(text.encode("utf-8", "surrogateescape"))


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
