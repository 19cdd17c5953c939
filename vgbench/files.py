"""Files that are there whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgbench.errors import UserError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; what is there at the end takes the place of `path`.

    The folder is made where there is none. A failure leaves `path` as it was.

    Raises:
        UserError: the file cannot be written (no space left, no permission).
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise UserError(
                f"{path}: cannot be written ({reason}). Expected a writable folder with space left"
            ) from error
        raise


# What a disk says that has no space for more: none at all, none of one's quota, none in files of this size.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SPACE_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full; C++ libraries say it in words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_SPACE
    return any(words in str(error) for words in _NO_SPACE_WORDS)


def check_space(path: Path, need: int, remedy: str) -> None:
    """Raise UserError now where a file would not fit on its disk, rather than after the hours of making it.

    Args:
        path: the file; where its folder is not made yet, the disk is that of the next folder above.
        need: bytes that it will take beyond what is there of it.
        remedy: what a person can do besides freeing space.
    """
    folder = path.absolute().parent
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # no answer is no refusal; writing tells
    if need > free:
        raise UserError(
            f"{path}: needs {_gigabytes(need)}, but its disk has {_gigabytes(free)} left. Expected space for the whole "
            f"file; free some space{f', or {remedy}' if remedy else ''}"
        )


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
