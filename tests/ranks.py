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
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        launcher += [f"--max_restarts={restarts}"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    return subprocess.run(
        [*launcher, str(REPOSITORY / script), *arguments],
        cwd=cwd, env=variables, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
