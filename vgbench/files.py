"""Files that are there whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import contextlib
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
