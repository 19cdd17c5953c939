"""Carries out a matrix: runs what has no result yet, goes on past failures, and keeps the table up to date.

Everything is under one folder: `<run>/<job>.yaml` the options given to the script, `<run>/<job>.log` what it printed,
`<run>/<job>.state.json` what became of it, `<run>/<job>/` its run folder, and `table.md`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import vgbench
from vgbench.benchmark.matrix import COMBINED, Job, Matrix
from vgbench.errors import UserError
from vgbench.files import write_text
from vgbench.report.labels import main_threshold
from vgbench.report.markdown import results_table
from vgbench.stored import own_names
from vgbench.training.checkpoint import BEST

Check = Callable[[str, Path], None]
PROGRAM = (sys.executable, "-m", "vgbench")
_POLL_SECONDS = 0.2
_TAIL_BYTES = 8192
_GRACE_SECONDS = 5


@dataclass(frozen=True)
class Campaign:
    """A matrix and where and with what it runs.

    Attributes:
        matrix: what to run.
        folder: where everything is written.
        program: the command whose parts run: its words, and then "train", "eval" or "combine".
        check: called with (script, config file) for every job before the first starts; raises UserError.
        say: prints one line of progress.
    """

    matrix: Matrix
    folder: Path
    program: Sequence[str] = PROGRAM
    check: Check | None = None
    say: Callable[[str], None] = print

    def run(self) -> tuple[str, dict[str, str]]:
        """Run what is not finished; return the table and run -> reason of what failed.

        Raises:
            UserError: another process runs the same matrix, or an option is refused by `check`.
        """
        with _only_one(self.folder) as lock:
            for job in self.matrix.jobs:
                self._write_config(job)
            failures: dict[str, str] = {}
            for number, job in enumerate(self.matrix.jobs, start=1):
                self._step(f"[{number}/{len(self.matrix.jobs)}] {job.run}: {job.name}", job, failures, lock)
                self._write_table(failures)
            return self._write_table(failures), failures

    def _step(self, label: str, job: Job, failures: dict[str, str], lock: int) -> None:
        stored = self._outcome(job)
        if stored is not None:
            self.say(f"{label}: already done{_recall_text(stored)}")
            return
        missing = [maker for maker in self._makers(job) if self._outcome(maker) is None]
        if missing:
            failures.setdefault(job.run, f"{job.name}: left out, {missing[0].folder} failed")
            self.say(f"{label}: left out, {missing[0].folder} failed")
            return
        self._set_aside(job)
        self.say(f"{label}: started, see {self._path(job, '.log')}")
        began = time.monotonic()
        self._write_state(job, "started")
        reason = self._call(job, lock)
        outcome = self._product(job)
        if not reason and outcome is None:
            reason = f"{job.script} ended well but left no results that can be read"
        took = _duration(time.monotonic() - began)
        if reason or outcome is None:
            failures.setdefault(job.run, f"{job.name}: {reason}")
            self._write_state(job, "failed", reason)
            self.say(f"{label}: FAILED after {took}: {reason}")
            return
        self._write_state(job, "finished")
        self.say(f"{label}: done in {took}{_recall_text(outcome)}")

    def _call(self, job: Job, lock: int) -> str:
        """Run one script; return why it failed, '' if it did not."""
        log = self._path(job, ".log")
        with log.open("ab") as output:
            start = output.tell()
            # The script holds the lock too: if only this process is killed, a second benchmark waits for the script.
            process = subprocess.Popen(
                self._command(job), stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[lock],
                env=_environment(),
            )  # fmt: skip
            try:
                self._wait(process, log)
            except BaseException:
                _stop(process)
                raise
        if process.returncode == 0:
            return ""
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            return f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        # A script's own message may stand behind a progress bar that was cut short.
        said = re.sub(r"^(.*[^A-Za-z\s])?error: ", "", _last_line(log, start))
        return said or f"exit status {process.returncode}, nothing printed"

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Wait for a script's end; on a terminal, show the last line that it printed meanwhile."""
        if not sys.stdout.isatty():
            process.wait()
            return
        while process.poll() is None:
            print(f"\r\x1b[K  {_last_line(log, 0)[:100]}", end="", flush=True)
            time.sleep(_POLL_SECONDS)
        print("\r\x1b[K", end="", flush=True)

    def _command(self, job: Job) -> list[str]:
        run_dir = self._run_dir(job)
        makers = [str(self._run_dir(maker) / BEST) for maker in self._makers(job)]
        if job.script in COMBINED:
            run_dir.mkdir(exist_ok=True)
            command = [*self.program, "combine", job.script, *flags(job.options)]
            return [*command, *self._own_code(), "--checkpoints", *makers, "--output", str(run_dir / BEST)]
        command = [*self.program, job.script, "--config", str(self._path(job, ".yaml"))]
        command += ["--run_dir", str(run_dir)]
        if job.checkpoint is not None:
            command += ["--resume", str(job.checkpoint)]
        elif makers:
            command += ["--resume", *makers]
        elif job.script == "train" and (run_dir / "last_model.pth").is_file():
            command += ["--resume", str(run_dir / "last_model.pth")]
        return command + self._own_code()

    def _own_code(self) -> list[str]:
        """Tell each job of the code that the matrix names: the checkpoints of one job name it to the next."""
        named = {name for job in self.matrix.jobs for name in own_names(job.options)}
        return ["--own_code", *sorted(named)] if named else []

    def _makers(self, job: Job) -> list[Job]:
        by_folder = {one.folder: one for one in self.matrix.jobs}
        return [by_folder[folder] for folder in job.makers]

    def _run_dir(self, job: Job) -> Path:
        return self.folder / job.folder

    def _path(self, job: Job, suffix: str) -> Path:
        return self.folder / job.run / (job.name + suffix)

    def _write_config(self, job: Job) -> None:
        path = self._path(job, ".yaml")
        write_text(path, yaml.safe_dump(job.options, sort_keys=False))
        if self.check is not None:
            self.check(job.script, path)

    def _write_state(self, job: Job, status: str, reason: str = "") -> None:
        state = {"digest": job.digest, "status": status, "reason": reason}
        write_text(self._path(job, ".state.json"), json.dumps(state, indent=2) + "\n")

    def _outcome(self, job: Job) -> dict[str, Any] | None:
        """Return what a job that is finished with just these options left, else None."""
        state = _read_json(self._path(job, ".state.json"))
        if not isinstance(state, dict) or state.get("digest") != job.digest or state.get("status") == "failed":
            return None
        # A benchmark that was killed may have missed the end of a script: the product, written last, tells.
        return self._product(job)

    def _product(self, job: Job) -> dict[str, Any] | None:
        """Return the results that a job wrote, {} for a combined network, None where they are missing."""
        if job.script in COMBINED:
            return {} if (self._run_dir(job) / BEST).is_file() else None
        results = _read_json(self._run_dir(job) / "results.json")
        return results if _is_results(results) else None

    def _set_aside(self, job: Job) -> None:
        """Move away what a job of other options left, so that nothing of it is taken for this job's."""
        state = _read_json(self._path(job, ".state.json"))
        old = state.get("digest", "unknown") if isinstance(state, dict) else "unknown"
        run_dir = self._run_dir(job)
        if old == job.digest or not run_dir.exists():
            return
        aside = next(
            path
            for number in range(1, 10_000)
            if not (path := run_dir.with_name(f"{job.name}.{old}" + (f"-{number}" if number > 1 else ""))).exists()
        )
        run_dir.rename(aside)
        self.say(f"  the options changed: what was there is kept as {aside}")

    def _write_table(self, failures: Mapping[str, str]) -> str:
        results = []
        for job in self.matrix.jobs:
            stored = self._outcome(job)
            if stored:
                results.append({**stored, "name": job.run})
        table = results_table(
            results, published=self.matrix.published, failures=failures, order=self.matrix.runs if results else ()
        )
        write_text(self.folder / "table.md", table)
        return table


def _environment() -> dict[str, str]:
    # `-m` looks in the folder where the benchmark was started; what runs is to be this very package.
    known = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(Path(vgbench.__file__).parents[1]), *([known] if known else [])])
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def flags(options: Mapping[str, Any]) -> list[str]:
    """Return options by flat name as the words of a command line."""
    words = []
    for name, value in options.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


@contextmanager
def _only_one(folder: Path) -> Iterator[int]:
    """Hold the folder, by the descriptor yielded; the system lets go of it when its holders end, however they end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another by --logs_folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder}: another benchmark.py, or a run that one left behind, works here; wait for it or stop it"
            ) from error
        yield lock.fileno()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a script, with time to finish the checkpoint that it may be writing."""
    try:
        # Ctrl-C on a terminal has reached the script already; a second one would cut its clean end short.
        process.wait(_GRACE_SECONDS)
        return
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_results(content: Any) -> bool:
    try:
        return bool(content["dataset"]) and bool(content["recalls"][main_threshold(content)])
    except (KeyError, TypeError, StopIteration, ValueError, AttributeError):
        return False


def _recall_text(results: dict[str, Any]) -> str:
    if not results:
        return ""
    recalls = results["recalls"][main_threshold(results)]
    return f", {results['dataset']} " + " ".join(f"R@{value} {recalls[value]:.1f}" for value in list(recalls)[:2])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _last_line(log: Path, start: int) -> str:
    """Return the last line with text that was printed after byte `start`; a progress bar's redraws are lines."""
    with log.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(start, end - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
