"""How every command ends: 0, or one line on stderr and 2 (a person can mend it) or 130 (Ctrl-C)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from vgbench.errors import Interrupted, UserError


def ended(work: Callable[[], int | None], going_on: str = "") -> int:
    """Do a command's work and return its exit status.

    Args:
        work: returns a status, None for 0.
        going_on: said after Ctrl-C where `work` itself does not know better.
    """
    _find_modules_here()
    try:
        status = work() or 0
    except UserError as error:
        print(f"error: {_rank()}{error}", file=sys.stderr, flush=True)
        return _leave_others(2)
    except KeyboardInterrupt as stop:
        remedy = str(stop) if isinstance(stop, Interrupted) else going_on
        print("interrupted" + (f"; {remedy}" if remedy else ""), file=sys.stderr)
        return 130
    if _one_of_several():
        from vgbench import parallel  # with torch, which is slow to import

        parallel.stop()
    return status


def run_script(work: Callable[[], int | None], going_on: str = "") -> None:
    """Do a command's work and end the process where it did not end well; arguments as `ended`."""
    status = ended(work, going_on)
    if status:
        sys.exit(status)


def _find_modules_here() -> None:
    """Let `package.module:Class` name a file of the current folder; what is installed comes before it."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _one_of_several() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def _rank() -> str:
    return f"rank {os.environ['RANK']}: " if _one_of_several() else ""


def _leave_others(status: int) -> int:
    """Return the status; where torchrun started several processes, end this one without waiting for the others."""
    if _one_of_several():
        from vgbench import parallel

        parallel.leave(status)
    return status
