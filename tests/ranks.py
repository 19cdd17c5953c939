"""Runs a script on several ranks of this machine, as torchrun does, and reads what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from locations import REPOSITORY


def torchrun(
    ranks: int, script: str, *arguments: str, cwd: Path, restarts: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository; one rank runs without torchrun."""
    process = started(ranks, script, *arguments, cwd=cwd, restarts=restarts)
    try:
        out, err = process.communicate(timeout=280)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def started(ranks: int, script: str, *arguments: str, cwd: Path, restarts: int = 0) -> subprocess.Popen[str]:
    """Start a script of the repository as `torchrun` does."""
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        launcher += [f"--max_restarts={restarts}"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    return subprocess.Popen(
        [*launcher, str(REPOSITORY / script), *arguments],
        cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
