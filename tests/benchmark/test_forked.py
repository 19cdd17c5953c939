"""Jobs as forks: they print where they should, end as a process would, and leave the parent as it was."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from vgbench.benchmark.executor import Call, LocalExecutor
from vgbench.benchmark.forked import Forked
from vgbench.benchmark.matrix import Job

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def command(words: Sequence[str]) -> int:
    """A command: prints its words, then does what the first of them says."""
    print("told", *words, os.environ.get("OF_THE_JOB"), flush=True)
    if words[0] == "wait":
        time.sleep(60)
    if words[0] == "raise":
        raise ValueError("shapes differ")
    return int(words[1])


def run(words: list[str], log: Path, during: Callable[[Forked], None] = lambda job: None) -> int | None:
    with log.open("wb") as output:
        job = Forked(command, words, output.fileno(), {"OF_THE_JOB": "its own"})
    during(job)
    deadline = time.monotonic() + 60
    while job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return job.returncode


def test_it_prints_to_its_log_and_ends_with_its_status(tmp_path: Path) -> None:
    environment, arguments = dict(os.environ), list(sys.argv)
    assert run(["end", "0"], tmp_path / "log") == 0
    assert (tmp_path / "log").read_text() == "told end 0 its own\n"
    assert run(["end", "3"], tmp_path / "log") == 3
    assert dict(os.environ) == environment and sys.argv == arguments


def test_an_error_is_a_traceback_in_its_log(tmp_path: Path) -> None:
    assert run(["raise"], tmp_path / "log") == 1
    assert (tmp_path / "log").read_text().endswith("ValueError: shapes differ\n")


def test_a_signal_ends_it_as_it_ends_a_process(tmp_path: Path) -> None:
    def end(job: Forked) -> None:
        while "told" not in (tmp_path / "log").read_text():
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)

    assert run(["wait"], tmp_path / "log", end) == -signal.SIGKILL


def test_an_executor_forks_what_is_the_command_and_starts_what_is_not(tmp_path: Path) -> None:
    program = ("python", "-m", "command")
    executor = LocalExecutor(2, main=command, program=program)
    calls = [
        Call(Job(name, "eval", "eval-1", {}), words, tmp_path / f"{name}.log", {"OF_THE_JOB": name})
        for name, words in {"a": (*program, "end", "2"), "b": (sys.executable, "-c", "print('another')")}.items()
    ]
    for call in calls:
        executor.start(call)
    ended: list[tuple[Call, str]] = []
    deadline = time.monotonic() + 60
    while len(ended) < 2 and time.monotonic() < deadline:
        ended += executor.ended()
        time.sleep(0.01)
    reasons = {call.job.run: reason for call, reason in ended}
    assert reasons == {"a": "told end 2 a", "b": ""}
    assert calls[1].log.read_text() == "another\n"
