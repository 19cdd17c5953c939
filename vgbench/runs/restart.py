"""What lets a job that torchrun or SLURM starts again go on with its own run, and never with another job's."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from vgbench import parallel, srun
from vgbench.files import write_text


def is_watched() -> bool:
    """Whether torchrun or srun watches this process and may start it again, be it the only one that is left."""
    return "TORCHELASTIC_RUN_ID" in os.environ or bool(srun.step()) or parallel.launched()


def remember(folder: Path) -> None:
    """Note the run's folder for a later start of this job; raises UserError if that cannot be written."""
    write_text(_file(), json.dumps({"folder": str(folder.resolve()), "job": _job()}))


def remembered() -> Path | None:
    """Return the folder that an earlier start of this very job noted; None at its first start.

    A first start takes away what an earlier job of the same id left behind.
    """
    if not is_watched():
        return None
    if not int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and not srun.requeued():
        if parallel.is_main():
            forget()
        return None
    try:
        noted = json.loads(_file().read_text())
        same = _is_same(noted["job"], _job())
        return Path(noted["folder"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget() -> None:
    """Take the note away: the job has ended well, or begins."""
    if is_watched():
        with contextlib.suppress(OSError):
            _file().unlink(missing_ok=True)


def _file() -> Path:
    """Named by the job's id, else by the process that starts the ranks."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if job == "none" and srun.step():
        return Path("logs") / f".srun-{srun.step()}"
    word = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in job)[:100]
    return Path("logs") / f".torchrun-{word if job != 'none' else os.getppid()}"


def _job() -> dict[str, Any]:
    """What tells two jobs of one id apart: the process that starts the ranks, on a machine of theirs.

    SLURM gives each job a number of its own, which it keeps when it is queued again.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ and srun.step():
        return {"machine": os.environ.get("SLURM_CLUSTER_NAME", ""), "process": srun.step(), "began": ""}
    starter = os.getppid()
    try:  # when it began, so that a process of the same number is not taken for it; only Linux tells
        began = Path(f"/proc/{starter}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = ""
    return {"machine": socket.gethostname(), "process": starter, "began": began}


def _is_same(noted: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether two starts are of one job; from another machine of it, only its id can tell."""
    return noted["machine"] != own["machine"] or noted == own
