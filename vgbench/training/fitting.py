"""What is said where a part of a checkpoint does not fit the run that it is read for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgbench.errors import UserError, in_short


@contextmanager
def fitting(path: Path, what: str, expected: str) -> Iterator[None]:
    """Tell in one line that a part of a checkpoint does not fit this run; what a file holds can fail in any way."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:
        raise UserError(f"{path}: {what} does not fit this run ({in_short(error)}). Expected {expected}") from error
