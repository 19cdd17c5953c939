"""Space on the disk, asked for before it is needed."""

from __future__ import annotations

from pathlib import Path

from vgbench.errors import UserError
from vgbench.files import free_bytes

_SPARE = 64 * 2**20


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError where the disk of `folder` has not `needed` bytes and a little more left for `what`."""
    free = free_bytes(folder)
    if free is not None and needed > 0 and free < needed + _SPARE:
        raise UserError(
            f"{what}: needs {in_bytes(needed)}, and the disk of {folder} has {in_bytes(free)} left. Expected space for "
            "it; make some, or name another disk (--datasets_folder for datasets, $TORCH_HOME for weights)"
        )


def in_bytes(count: float) -> str:
    """Return a number of bytes as people read it: 1.2 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
