"""Jobs of a matrix as Ray tasks (https://www.ray.io; extra `cluster`): on whichever node has free processors.

A task whose node dies is tried again on another one, where its training goes on from its last checkpoint; the folder of
the matrix and the datasets must be seen by all nodes under the same paths.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import Any

from vgbench.benchmark.executor import Call, last_line
from vgbench.benchmark.process import Process
from vgbench.errors import UserError

RETRIES = 5
_SECONDS_TO_ANSWER = 10.0


@dataclass
class RayExecutor:
    """Hands jobs to Ray.

    Attributes:
        address: of the cluster; "auto" for the one of this machine, "local" to start one here.
        cpus: processors that a job is given.
        gpus: whether jobs are given GPUs.
        at_a_time: how many are handed over at a time; Ray lets those wait that do not fit yet.
    """

    address: str = "auto"
    cpus: float = 1
    gpus: bool = False
    at_a_time: int = 1000
    _running: list[tuple[Call, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ray = _library()
        try:
            _check_answers(self.address)
            self._ray.init(
                address=None if self.address == "local" else self.address, log_to_driver=False,
                ignore_reinit_error=True, logging_level="warning",
            )  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--ray {self.address}: no cluster answers there ({str(error).splitlines()[0]}). "
                "Expected the address that `ray start --head` prints, or `local`"
            ) from error
        # The nodes take the package from where it is here.
        self._task = self._ray.remote(max_retries=RETRIES, retry_exceptions=False)(_run)

    def has_room(self, call: Call) -> bool:
        return len(self._running) < self.at_a_time

    def start(self, call: Call) -> None:
        gpus = call.job.gpus if self.gpus else 0
        options = self._task.options(num_cpus=self.cpus, num_gpus=gpus, name=f"vgbench {call.job.folder}")
        self._running.append((call, options.remote(call)))

    def ended(self) -> list[tuple[Call, str]]:
        if not self._running:
            return []
        references = [reference for _, reference in self._running]
        ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        done = [(call, reference) for call, reference in self._running if reference in ready]
        self._running = [one for one in self._running if one[1] not in ready]
        return [(call, self._reason(call, reference)) for call, reference in done]

    def last_line(self, call: Call) -> str:
        return last_line(call.log, 0)

    def stop(self) -> None:
        for _, reference in self._running:
            self._ray.cancel(reference, force=False)
        self._running = []

    def _reason(self, call: Call, reference: Any) -> str:
        try:
            return str(self._ray.get(reference))
        except Exception as error:
            return f"ended by Ray ({type(error).__name__}): {last_line(call.log, 0)}"


def _check_answers(address: str) -> None:
    """Raise OSError where nothing listens at `host:port`: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()


def _run(call: Call) -> str:
    return Process(call).run()


def _library() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray: ray is not installed. Expected `pip install 'vgbench[cluster]'`") from error
    return ray
