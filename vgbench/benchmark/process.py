"""A job as one process, for executors that run it on another machine: started, watched, ended and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from vgbench.benchmark.executor import Call, die_with_parent, reason_of

SAVE_SECONDS = 120.0


@dataclass
class Process:
    """Runs a call where it is called.

    Attributes:
        call: what to run.
        visible: environment variables that the machine it runs on keeps, such as the GPUs that it was given.
    """

    call: Call
    visible: tuple[str, ...] = ("CUDA_VISIBLE_DEVICES", "PATH", "LD_LIBRARY_PATH")
    _running: subprocess.Popen[bytes] | None = None

    def run(self) -> str:
        """Run it to its end; returns why it failed, '' if it did not. SIGTERM is passed on, so that it can save.

        A job that has ended well is not run once more where its node was lost, or it was preempted, just then.
        """
        if self.call.is_done():
            return ""
        own = {name: os.environ[name] for name in self.visible if name in os.environ}
        self.call.log.parent.mkdir(parents=True, exist_ok=True)
        with self.call.log.open("ab") as output:
            start = output.tell()
            process = self._running = subprocess.Popen(
                self.call.words_now(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**self.call.environment, **own}, start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
            try:
                process.wait()
            except BaseException:
                self.end()
                raise
        return reason_of(process.returncode, self.call.log, start)

    def end(self) -> None:
        """End it and all that it started, with time to save a checkpoint."""
        process = self._running
        for kind, seconds in ((signal.SIGTERM, SAVE_SECONDS), (signal.SIGKILL, 10.0)):
            if process is None or _is_over(process):
                return
            os.killpg(process.pid, kind)
            deadline = time.monotonic() + seconds
            while not _is_over(process) and time.monotonic() < deadline:
                time.sleep(0.05)


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended; `poll` says no for ever to the handler of a signal that came during `wait`."""
    if process.returncode is not None or sys.platform == "darwin" or os.name != "posix":
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
