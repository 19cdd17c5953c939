"""Ranks that SLURM starts: `srun --ntasks=4 python3 train.py ...` is one run of four ranks, as with torchrun.

srun tells each process who it is in variables of its own; here they become those that torchrun sets, which are all that
the rest of the library knows of (https://slurm.schedmd.com/srun.html, output environment variables).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping

from vgbench.errors import UserError

_PORTS = range(20_000, 32_000)  # below those that systems give to outgoing connections


def take_ranks(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT from srun's variables, where it runs several tasks.

    What is set already stays, so that torchrun inside a job, or an address of one's own, is left alone. In the job's
    own script, without srun, there is one process, however many tasks the job has.

    Raises:
        UserError: srun's variables are not as its manual says.
    """
    if "RANK" in environment or _number(environment, "SLURM_STEP_NUM_TASKS", 1) < 2:
        return
    environment["RANK"] = str(_number(environment, "SLURM_PROCID"))
    environment["WORLD_SIZE"] = str(_number(environment, "SLURM_STEP_NUM_TASKS"))
    environment["LOCAL_RANK"] = str(_number(environment, "SLURM_LOCALID"))
    environment.setdefault("MASTER_ADDR", first_machine(environment.get("SLURM_STEP_NODELIST", "")))
    environment.setdefault("MASTER_PORT", str(_port(environment)))


def one_of_several(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several ranks of a run, be it torchrun or srun that started them."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment


def first_machine(names: str) -> str:
    """Return the first of SLURM's list of machines: "gpu01" of "gpu[01-03,07],login".

    Raises:
        UserError: there is none.
    """
    found = re.match(r"([^,\[\]]+)(?:\[([^,\-\]]+)[^\]]*\]([^,\[]*))?", names)
    if found is None:
        raise UserError(f"SLURM_STEP_NODELIST {names!r}: expected names of machines; set MASTER_ADDR to the first one")
    before, number, after = found.groups()
    return before + (number or "") + (after or "")


def requeued(environment: Mapping[str, str] = os.environ) -> int:
    """Return how often SLURM has put this job into its queue again, where srun started it; 0 outside of SLURM."""
    return _number(environment, "SLURM_RESTART_COUNT", 0) if step(environment) else 0


def step(environment: Mapping[str, str] = os.environ) -> str:
    """Return srun's name for what it runs, "<job>.<step>", which a job that is queued again keeps; "" without srun."""
    if "SLURM_STEP_NUM_TASKS" not in environment or "SLURM_JOB_ID" not in environment:
        return ""
    return f"{environment['SLURM_JOB_ID']}.{environment.get('SLURM_STEP_ID', '0')}"


def _port(environment: Mapping[str, str]) -> int:
    """The same port on all ranks of a step, and most likely another for another one on the same machine."""
    numbers = [int(text) for text in re.findall(r"\d+", step(environment))]
    return _PORTS[sum(number * factor for number, factor in zip(numbers, (7, 1), strict=False)) % len(_PORTS)]


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise UserError(f"{name} {text!r}: expected a whole number, as srun sets it; start the ranks with torchrun")
    return int(text)
