"""Where the jobs of a matrix run: on this machine, several at a time."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vgbench.benchmark.forked import Forked, Main
from vgbench.benchmark.matrix import Job

GRACE_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 8192


@dataclass(frozen=True)
class Call:
    """One job as a process.

    Attributes:
        job: whose it is.
        words: the command.
        log: file that what it prints is added to.
        environment: of the process.
        goes_on_from: a checkpoint of an earlier, interrupted try, which is taken up where it is there by then.
        begins_with: words of a first try alone: what one that goes on knows already.
        product: what it writes last.
        started: the note that is written when it is handed over.
    """

    job: Job
    words: tuple[str, ...]
    log: Path
    environment: Mapping[str, str]
    goes_on_from: Path | None = None
    begins_with: tuple[str, ...] = ()
    product: Path | None = None
    started: Path | None = None

    def is_done(self) -> bool:
        """Whether it has come to its end since it was handed over, though whoever ran it could not say so any more."""
        if self.product is None or self.started is None:
            return False
        try:
            return self.product.stat().st_mtime_ns > self.started.stat().st_mtime_ns
        except OSError:
            return False

    def words_now(self) -> tuple[str, ...]:
        """The command as it is to be given now."""
        again = self.goes_on_from
        more = ("--resume", str(again)) if again is not None and again.is_file() else self.begins_with
        return ranks_of((*self.words, *more), self.job.gpus)


class Executor(Protocol):
    """Runs calls; what a campaign needs to know of where its jobs run."""

    def has_room(self, call: Call) -> bool:
        """Whether `start` would begin it now."""

    def start(self, call: Call) -> None:
        """Begin a call."""

    def ended(self) -> list[tuple[Call, str]]:
        """Return the calls that have ended since the last time, with why they failed, '' if they did not."""

    def last_line(self, call: Call) -> str:
        """Return the last line that a call has printed."""

    def stop(self) -> None:
        """End everything that runs, with time to save."""


@dataclass
class _Running:
    call: Call
    process: subprocess.Popen[bytes] | Forked
    log_start: int
    gpus: tuple[str, ...]


@dataclass
class LocalExecutor:
    """Processes of this machine.

    Attributes:
        jobs: how many run at a time.
        gpus: names of the GPUs that are shared out, one per job or as many as it asks for; () on a machine without.
        holds: descriptors that every process keeps open, such as the lock of the folder.
        main: the command itself, words -> exit status, where jobs on one rank are forks of this process.
        program: the words that stand before those of `main`.
    """

    jobs: int = 1
    gpus: Sequence[str] = ()
    holds: Sequence[int] = ()
    main: Main | None = None
    program: Sequence[str] = ()
    _running: list[_Running] = field(default_factory=list)

    def has_room(self, call: Call) -> bool:
        if len(self._running) >= self.jobs:
            return False
        # A job that wants more GPUs than there are gets them all.
        return not self.gpus or len(self._free()) >= min(call.job.gpus, len(self.gpus))

    def start(self, call: Call) -> None:
        gpus = tuple(self._free()[: call.job.gpus]) if self.jobs > 1 or call.job.gpus > 1 else ()
        with call.log.open("ab") as output:
            start = output.tell()
            visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
            process = self._process(call, output.fileno(), {**call.environment, **visible})
        self._running.append(_Running(call, process, start, gpus))

    def _process(self, call: Call, output: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | Forked:
        words, before = call.words_now(), len(self.program)
        if self.main is not None and words[:before] == tuple(self.program):
            return Forked(self.main, words[before:], output, environment, save_with_parent)
        # The process holds the lock too: if only this one is killed, a second benchmark waits for its job to end.
        # (On Windows no descriptor can be handed on.)
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            pass_fds=list(self.holds) if os.name == "posix" else [],
            preexec_fn=save_with_parent if sys.platform == "linux" else None,
        )  # fmt: skip

    def ended(self) -> list[tuple[Call, str]]:
        done = [(one, status) for one in self._running if (status := one.process.poll()) is not None]
        self._running = [one for one in self._running if one.process.returncode is None]
        return [(one.call, reason_of(status, one.call.log, one.log_start)) for one, status in done]

    def last_line(self, call: Call) -> str:
        return last_line(call.log, 0)

    def stop(self) -> None:
        # Ctrl-C on a terminal has reached the jobs already; a second one would cut their clean end short.
        for number in (None, signal.SIGINT, signal.SIGKILL):
            deadline = time.monotonic() + GRACE_SECONDS
            for one in self._running:
                if number is not None and one.process.poll() is None:
                    one.process.send_signal(number)
            while time.monotonic() < deadline and any(one.process.poll() is None for one in self._running):
                time.sleep(0.02)
        self._running = []

    def _free(self) -> list[str]:
        taken = {gpu for one in self._running for gpu in one.gpus}
        return [gpu for gpu in self.gpus if gpu not in taken]


def save_with_parent() -> None:
    """On Linux, let the system ask this process to end, with time to save, where the one that started it is killed."""
    die_with_parent(signal.SIGTERM)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """On Linux, let the system send this process a signal when the one that started it ends; between fork and exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def reason_of(status: int, log: Path, start: int) -> str:
    if status == 0:
        return ""
    if status < 0:
        name = signal.Signals(-status).name
        return f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    # A script's own message may stand behind a progress bar that was cut short.
    said = re.sub(r"^(.*[^A-Za-z\s])?error: ", "", last_line(log, start))
    return said or f"exit status {status}, nothing printed"


def last_line(log: Path, start: int) -> str:
    """Return the last line with text that was printed after byte `start`; a progress bar's redraws are lines."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(start, end - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def ranks_of(words: Sequence[str], gpus: int) -> tuple[str, ...]:
    """Return the words that run a program on several ranks of this machine (torchrun), where it takes several GPUs."""
    if gpus <= 1 or len(words) < 2 or words[0] != sys.executable:
        return tuple(words)
    return (words[0], "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={gpus}", *words[1:])
