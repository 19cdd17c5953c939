"""Space on the disk, asked for before it is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

from vgbench.errors import UserError

_SPARE = 64 * 2**20


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError where the disk of `folder` has not `needed` bytes and a little more left for `what`."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if needed > 0 and free < needed + _SPARE:
        raise UserError(
            f"{what}: needs {in_bytes(needed)}, and the disk of {folder} has {in_bytes(free)} left. Expected space for "
            "it; make some, or name another disk with --datasets_folder"
        )


def in_bytes(count: float) -> str:
    """Return a number of bytes as people read it: 1.2 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
