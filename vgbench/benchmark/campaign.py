"""Carries out a matrix: runs what has no result yet, goes on past failures, and keeps the tables up to date."""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from filelock import lock_descriptor

import vgbench
from vgbench.benchmark.executor import Call, Executor, LocalExecutor
from vgbench.benchmark.forked import Main
from vgbench.benchmark.matrix import COMBINED, Job, Matrix
from vgbench.benchmark.process import SAVE_SECONDS
from vgbench.benchmark.store import STATE, Facts, Store
from vgbench.benchmark.tables import TableOptions, write_tables
from vgbench.benchmark.view import LiveView, Running, State, duration
from vgbench.errors import UserError, did_you_mean
from vgbench.report.labels import main_threshold
from vgbench.stored import own_names
from vgbench.training.checkpoint import BEST, LAST

Check = Callable[[Job, Path], None]
PROGRAM = (sys.executable, "-m", "vgbench")
OUTDATED = "to do: its results are of other options or images"
_POLL_SECONDS = 0.2
_PROC = Path("/proc/self")  # where there is none, nothing tells whether a process lives


@dataclass
class _Progress:
    """Where a campaign is: jobs still to be done, those that run (and since when), and why some have no result."""

    waiting: list[Job]
    total: int
    started: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Campaign:
    """A matrix and where and with what it runs.

    Attributes:
        matrix: what to run.
        folder: where everything is written.
        program: the command whose parts run: its words, and then "train", "eval" or "combine".
        check: called with (job, config file) for every job before the first starts; raises UserError.
        check_data: the same, once the options of all are known to be right: whether their data is there.
        say: prints one line of progress.
        jobs: how many run at a time.
        gpus: names of this machine's GPUs; with several jobs at a time each takes its own.
        threads: that a job computes with, whoever runs it; None for what the environment says.
        only: names of runs, with * and ?; of the others only those that these take a network from.
        force: run the chosen ones again, also where they have a result.
        main: the command as a function, words -> exit status, for jobs that are forks of this process.
        executor: where the jobs run; None for processes of this machine.
        tables: what the tables show.
        facts: as of `Store`.
        elsewhere: as of `Store`.
    """

    matrix: Matrix
    folder: Path
    program: Sequence[str] = PROGRAM
    check: Check | None = None
    check_data: Check | None = None
    say: Callable[[str], None] = print
    jobs: int = 1
    gpus: Sequence[str] = ()
    threads: int | None = None
    only: str | None = None
    force: bool = False
    main: Main | None = None
    executor: Executor | None = None
    tables: TableOptions = field(default_factory=TableOptions)
    facts: Facts | None = None
    elsewhere: tuple[Path, ...] = ()

    def run(self) -> tuple[str, dict[str, str]]:
        """Run what is not finished; return the markdown table and run -> reason of what failed.

        Raises:
            UserError: another process runs the same matrix, or an option is refused by `check`.
        """
        wanted = self._wanted()
        with _only_one(self.folder) as lock:
            for job in self.matrix.jobs:
                self.store.write_config(job)
            for check in filter(None, (self.check, self.check_data)):
                for job in self.matrix.jobs:
                    with self._named(job):
                        check(job, self.store.path(job, ".yaml"))
            if self.force:
                for job in self._chosen():
                    self._set_aside(job, always=True)
            progress = _Progress(list(wanted), len(wanted))
            executor = self.executor or LocalExecutor(self.jobs, self.gpus, [lock], self.main, self.program)
            try:
                self._carry_out(progress, executor)
            except BaseException:
                executor.stop()
                raise
            finally:
                self.view.clear()
            return self.write_tables(progress.failures), progress.failures

    @contextmanager
    def _named(self, job: Job) -> Iterator[None]:
        """Let what is wrong with a job name the matrix and the run."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.matrix.path}: {job.run}: {job.name}: {error}") from error

    @cached_property
    def store(self) -> Store:
        """What is on disk; one for the campaign, since it remembers what each job is known by."""
        return Store(self.matrix, self.folder, self.facts, self.elsewhere)

    @cached_property
    def view(self) -> LiveView:
        """What is shown meanwhile."""
        return LiveView(plain=self.say)

    def write_tables(self, failures: Mapping[str, str] | None = None) -> str:
        """Write the table in all its forms; return it as markdown."""
        return write_tables(self.folder, self.store, self.tables, self._failed() if failures is None else failures)

    def statuses(self) -> list[tuple[Job, str]]:
        """Return every job with "done", "failed: <reason>", "waits for <job>", "to do", or `OUTDATED`."""
        store, found = self.store, []
        for job in self.matrix.jobs:
            missing = [maker.folder for maker in store.makers(job) if store.outcome(maker) is None]
            failure = store.failure(job)
            if store.outcome(job) is not None:
                status = "done"
            elif failure:
                status = f"failed: {failure}"
            elif store.is_outdated(job):
                status = OUTDATED
            else:
                status = f"waits for {missing[0]}" if missing else "to do"
            found.append((job, status))
        return found

    def left(self) -> str:
        """Return a line that says how many jobs are not in the tables, '' where all are."""
        statuses = [status for _, status in self.statuses()]
        left = [status for status in statuses if status != "done"]
        if not left:
            return ""
        outdated = left.count(OUTDATED)
        whole = outdated == len(left)
        why = (
            f": {'their' if whole else f'of {outdated} the'} results are of other options or images" if outdated else ""
        )
        failed = sum(status.startswith("failed") for status in left)
        why += f"; {failed} failed" if failed else ""
        command = f"python3 benchmark.py {self.matrix.path}"
        return f"{len(left)} of {len(statuses)} jobs to do{why}. To see which: {command} --list; to run them: {command}"

    def _failed(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for job, status in self.statuses():
            if status.startswith("failed: "):
                found.setdefault(job.run, f"{job.name}: {status.removeprefix('failed: ')}")
        return found

    def _chosen(self) -> list[Job]:
        """The jobs that `only` names; all without."""
        if self.only is None:
            return list(self.matrix.jobs)
        chosen = [job for job in self.matrix.jobs if self._is_chosen(job)]
        if not chosen:
            rows = self.matrix.rows
            raise UserError(
                f"--only {self.only}: no run has such a name.{did_you_mean(self.only, rows)} "
                f"Expected one of {', '.join(rows)}, * and ? stand for anything"
            )
        return chosen

    def _is_chosen(self, job: Job) -> bool:
        return any(fnmatch.fnmatchcase(name, str(self.only)) for name in (job.run, job.row))

    def _wanted(self) -> list[Job]:
        """The chosen jobs and those that they need, in order."""
        needed = {job.folder for job in self._chosen()}
        for job in reversed(self.matrix.jobs):
            if job.folder in needed:
                needed |= set(job.makers)
        return [job for job in self.matrix.jobs if job.folder in needed]

    def _carry_out(self, progress: _Progress, executor: Executor) -> None:
        while progress.waiting or progress.started:
            began = self._begin(progress, executor)
            for call, reason in executor.ended():
                self._finish(call, reason, progress)
            if progress.started and not began:
                self._show(progress, executor)
                time.sleep(_POLL_SECONDS)

    def _begin(self, progress: _Progress, executor: Executor) -> bool:
        """Begin what can begin, and settle what needs no run; returns whether anything changed."""
        store, changed = self.store, False
        for job in list(progress.waiting):
            if any(maker in progress.started for maker in job.makers) or self._waits(job, progress):
                continue
            settled, call = self._settled(job, progress), self._call(job)
            if not settled and not executor.has_room(call):
                break
            progress.waiting.remove(job)
            changed = True
            if settled:
                self.write_tables(progress.failures)
                continue
            self._set_aside(job)
            self.view.say(f"{self._label(job)}: started, see {store.path(job, '.log')}")
            store.write_state(job, "started")
            store.run_dir(job).parent.mkdir(parents=True, exist_ok=True)
            if job.script in COMBINED:
                store.run_dir(job).mkdir(exist_ok=True)
            executor.start(call)
            progress.started[job.folder] = time.monotonic()
        return changed

    def _waits(self, job: Job, progress: _Progress) -> bool:
        return any(one.folder in job.makers for one in progress.waiting)

    def _settled(self, job: Job, progress: _Progress) -> bool:
        """Say what needs no run: what is done, here or elsewhere, and what cannot be."""
        store, label = self.store, self._label(job)
        if (stored := store.outcome(job)) is not None:
            self.view.say(f"{label}: already done{_recall_text(stored)}")
            return True
        missing = [maker for maker in store.makers(job) if store.outcome(maker) is None]
        if missing:
            progress.failures.setdefault(job.run, f"{job.name}: left out, {missing[0].folder} failed")
            self.view.say(f"{label}: left out, {missing[0].folder} failed")
            return True
        if (taken := store.take_over(job)) is not None:
            self.view.say(f"{label}: taken over from {taken}{_recall_text(store.outcome(job) or {})}")
            return True
        return False

    def _finish(self, call: Call, reason: str, progress: _Progress) -> None:
        job, store = call.job, self.store
        seconds = time.monotonic() - progress.started.pop(job.folder)
        took = duration(seconds)
        outcome = store.product(job)
        if not reason and outcome is None:
            reason = f"{job.script} ended well but left no results that can be read"
        if reason or outcome is None:
            progress.failures.setdefault(job.run, f"{job.name}: {reason}")
            store.write_state(job, "failed", reason)
            self.view.say(f"{self._label(job)}: FAILED after {took}: {reason}")
        else:
            store.write_state(job, "finished")
            self.view.pace.add(job.script, seconds)
            self.view.say(f"{self._label(job)}: done in {took}{_recall_text(outcome)}")
        self.write_tables(progress.failures)

    def _label(self, job: Job) -> str:
        return f"[{self.matrix.jobs.index(job) + 1}/{len(self.matrix.jobs)}] {job.run}: {job.name}"

    def _set_aside(self, job: Job, *, always: bool = False) -> None:
        aside = self.store.set_aside(job, always=always)
        if aside is not None:
            why = "run again" if always else "the options changed"
            self.view.say(f"  {why}: what was there is kept as {aside}")

    def _show(self, progress: _Progress, executor: Executor) -> None:
        """On a terminal, show where the whole matrix is."""
        if not self.view.is_live:
            return
        now = time.monotonic()
        running = [
            Running(
                self._label(job), job.script, now - progress.started[job.folder], executor.last_line(self._call(job))
            )
            for job in self.matrix.jobs
            if job.folder in progress.started
        ]
        waiting = [job.script for job in progress.waiting]
        self.view.show(State(progress.total, running, waiting, progress.failures))

    def _call(self, job: Job) -> Call:
        store, trains = self.store, job.script == "train"
        last = store.folder / job.folder / LAST if trains else None
        first = store.makers(job)[: len(job.makers) - job.taught]
        start = [word for one in first for word in ("--start_from", str(store.run_dir(one) / BEST))]
        words, begins_with = tuple(self._command(job)), tuple(start if trains else ())
        product, started = store.product_path(job), store.path(job, STATE)
        return Call(job, words, store.path(job, ".log"), self._environment(), last, begins_with, product, started)

    def _environment(self) -> dict[str, str]:
        # `-m` looks in the folder where the benchmark was started; what runs is to be this very package.
        known = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(Path(vgbench.__file__).parents[1]), *([known] if known else [])])
        threads = {} if self.threads is None else {"OMP_NUM_THREADS": str(self.threads)}
        return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"} | threads

    def _command(self, job: Job) -> list[str]:
        store = self.store
        run_dir = store.folder / job.folder
        makers = [str(store.run_dir(maker) / BEST) for maker in store.makers(job)]
        if job.script in COMBINED:
            command = [*self.program, "combine", job.script, *flags(job.options)]
            return [*command, *self._own_code(), "--checkpoints", *makers, "--output", str(run_dir / BEST)]
        command = [*self.program, job.script, "--config", str(store.path(job, ".yaml")), "--run_dir", str(run_dir)]
        if job.checkpoint is not None:
            command += ["--resume", str(job.checkpoint)]
        elif makers and job.script == "eval":
            command += ["--resume", *makers]
        elif job.taught:
            command += ["--distill_from", makers[-1]]
        return command + self._own_code()

    def _own_code(self) -> list[str]:
        """Tell each job of the code that the matrix names: the checkpoints of one job name it to the next."""
        named = {name for job in self.matrix.jobs for name in own_names(job.options)}
        return ["--own_code", *sorted(named)] if named else []


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
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another by --logs_folder") from error
    with lock:
        if not _taken(lock, folder):
            raise UserError(
                f"{folder}: another benchmark.py, or a run that one left behind, works here; wait for it or stop it"
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock.fileno()


def _taken(lock: IO[str], folder: Path) -> bool:
    """Take a folder's lock; where its benchmark.py was killed, once the runs that it had started have ended."""
    deadline = time.monotonic() + SAVE_SECONDS
    said = False
    while not lock_descriptor(lock.fileno(), blocking=False):
        lock.seek(0)
        holder = lock.read().strip()
        known = holder.isdecimal() and _PROC.exists()
        if not known or Path(f"/proc/{holder}").exists() or time.monotonic() > deadline:
            return False
        if not said:
            print(f"{folder}: its last benchmark.py was killed; waiting for its runs to save and end", flush=True)
            said = True
        time.sleep(_POLL_SECONDS)
    return True


def _recall_text(results: dict[str, Any]) -> str:
    if not results:
        return ""
    recalls = results["recalls"][main_threshold(results)]
    return f", {results['dataset']} " + " ".join(f"R@{value} {recalls[value]:.1f}" for value in list(recalls)[:2])
