"""Jobs of a matrix through SLURM, by submitit (https://github.com/facebookincubator/submitit; extra `cluster`).

A job that is preempted, or reaches its time limit, is sent SIGUSR1 (or SIGTERM): its training saves and ends, and the
job is queued again, where it goes on from its last checkpoint.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vgbench.benchmark.executor import Call, last_line
from vgbench.benchmark.process import Process
from vgbench.errors import UserError

# What a YAML file of `--slurm` may hold, by submitit's names.
OPTIONS = (
    "slurm_partition", "slurm_time", "timeout_min", "gpus_per_node", "cpus_per_task", "mem_gb", "nodes",
    "tasks_per_node", "slurm_account", "slurm_qos", "slurm_constraint", "slurm_array_parallelism", "slurm_gres",
    "slurm_mem", "slurm_exclude", "slurm_comment", "slurm_setup", "slurm_additional_parameters", "slurm_signal_delay_s",
)  # fmt: skip


class Requeued:
    """What SLURM runs: a call, which is queued again when it is preempted."""

    def __init__(self, call: Call) -> None:
        self.process = Process(call)

    def __call__(self) -> str:
        return self.process.run()

    def checkpoint(self) -> Any:
        """Called by submitit on preemption: let the training save and end, and ask for another turn."""
        import submitit

        self.process.end()
        return submitit.helpers.DelayedSubmission(Requeued(self.process.call))


@dataclass
class SlurmExecutor:
    """Hands jobs to SLURM.

    Attributes:
        folder: of submitit's own files, which every machine must see.
        options: partition, time and so on, by submitit's names.
        cluster: "slurm", or "local" for processes of this machine that submitit watches (for tests).
        at_a_time: how many are handed over at a time.
    """

    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = "slurm"
    at_a_time: int = 1000
    _running: list[tuple[Call, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._submitit = _library()
        unknown = sorted(set(self.options) - set(OPTIONS))
        if unknown:
            raise UserError(f"--slurm: {unknown[0]} is not known. Expected {', '.join(OPTIONS)}")
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise UserError("--slurm: there is no srun here. Expected a machine that hands jobs over to SLURM")

    def has_room(self, call: Call) -> bool:
        return len(self._running) < self.at_a_time

    def start(self, call: Call) -> None:
        executor = self._submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
        executor.update_parameters(name=f"vgbench {call.job.folder}"[:60], **self._parameters(call))
        self._running.append((call, executor.submit(Requeued(call))))

    def ended(self) -> list[tuple[Call, str]]:
        done = [(call, job) for call, job in self._running if job.done()]
        self._running = [one for one in self._running if one not in done]
        return [(call, _reason(call, job)) for call, job in done]

    def last_line(self, call: Call) -> str:
        state = next((str(job.state) for other, job in self._running if other.job == call.job), "")
        return last_line(call.log, 0) or state.lower()

    def stop(self) -> None:
        for _, job in self._running:
            job.cancel()
        self._running = []

    def _parameters(self, call: Call) -> dict[str, Any]:
        parameters = dict(self.options)
        if call.job.gpus > 1:
            parameters["gpus_per_node"] = call.job.gpus
        parameters.setdefault("timeout_min", 24 * 60)
        return parameters


def _reason(call: Call, job: Any) -> str:
    try:
        return str(job.result())
    except Exception as error:
        # submitit's own errors hold the whole log of the job; the last line of ours says more.
        said = last_line(call.log, 0)
        return f"ended by SLURM ({job.state}): {said or type(error).__name__}"


def _library() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError("--slurm: submitit is not installed. Expected `pip install 'vgbench[cluster]'`") from error
    return submitit
