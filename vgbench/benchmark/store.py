"""What a matrix leaves on disk, and what of it still counts.

Everything is under one folder: `<run>/<job>.yaml` the options given to the script, `<run>/<job>.log` what it printed,
`<run>/<job>.state.json` what became of it, and `<run>/<job>/` its run folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vgbench.benchmark.matrix import COMBINED, Job, Matrix
from vgbench.files import write_text
from vgbench.report.labels import main_threshold
from vgbench.retrieval.predictions import RANKS, read_ranks
from vgbench.training.checkpoint import BEST

# Raised when a change of the code alters what the same options train or measure.
RESULTS_VERSION = 1
Facts = Callable[[Job], Mapping[str, Any]]
STATE = ".state.json"


@dataclass(frozen=True)
class Store:
    """The folder of a matrix.

    Attributes:
        matrix: whose jobs.
        folder: where everything is written.
        facts: what else a job's result depends on, beside its options as written: the options as resolved and the
            data; None where that is not known.
        elsewhere: folders of other matrices whose finished jobs are taken over.
    """

    matrix: Matrix
    folder: Path
    facts: Facts | None = None
    elsewhere: tuple[Path, ...] = ()
    _identities: dict[str, str] = field(default_factory=dict)

    def identity(self, job: Job) -> str:
        """What the job computes, in 16 hex digits: another identity means that a stored result is of something else."""
        if self.facts is None:
            return job.digest
        if job.folder not in self._identities:
            makers = [self.identity(maker) for maker in self.makers(job)]
            known = {**self.facts(job), "checkpoint": job.checkpoint_facts(), "makers": makers, "gpus": job.gpus}
            text = json.dumps([RESULTS_VERSION, job.script, known], sort_keys=True, default=str)
            self._identities[job.folder] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._identities[job.folder]

    def makers(self, job: Job) -> list[Job]:
        """The jobs whose networks a job takes."""
        by_folder = {one.folder: one for one in self.matrix.jobs}
        return [by_folder[folder] for folder in job.makers]

    def run_dir(self, job: Job) -> Path:
        """Where a job works, or where another matrix did the same."""
        state = self._state(job)
        if state.get("from") and state.get("digest") == self.identity(job):
            return Path(state["from"])
        return self.folder / job.folder

    def path(self, job: Job, suffix: str) -> Path:
        """A file of a job beside its run folder."""
        return self.folder / job.run / (job.name + suffix)

    def write_config(self, job: Job) -> Path:
        """Write a job's options for the script that takes them."""
        path = self.path(job, ".yaml")
        write_text(path, yaml.safe_dump(job.options, sort_keys=False))
        return path

    def write_state(self, job: Job, status: str, reason: str = "", **more: Any) -> None:
        """Note what became of a job."""
        state = {"digest": self.identity(job), "status": status, "reason": reason, **more}
        write_text(self.path(job, STATE), json.dumps(state, indent=2) + "\n")

    def outcome(self, job: Job) -> dict[str, Any] | None:
        """Return what a job that is finished with just these options left, else None."""
        state = self._state(job)
        if state.get("digest") != self.identity(job) or state.get("status") == "failed":
            return None
        # A benchmark that was killed may have missed the end of a script: the product, written last, tells.
        return self.product(job)

    def is_outdated(self, job: Job) -> bool:
        """Whether what a job left is of other options, images or networks than it has now."""
        state = self._state(job)
        return state.get("status") not in (None, "failed") and state.get("digest") != self.identity(job)

    def failure(self, job: Job) -> str:
        """Return why a job failed with just these options, '' if it did not."""
        state = self._state(job)
        same = state.get("digest") == self.identity(job)
        return str(state.get("reason", "")) if same and state.get("status") == "failed" else ""

    def product(self, job: Job) -> dict[str, Any] | None:
        """Return the results that a job wrote, {} for a combined network, None where they are missing."""
        path = self.product_path(job)
        if job.script in COMBINED:
            return {} if path.is_file() else None
        results = read_json(path)
        return results if _is_results(results) else None

    def product_path(self, job: Job) -> Path:
        """What a job writes last."""
        return self.run_dir(job) / (BEST if job.script in COMBINED else "results.json")

    def rows(self, job: Job, *, ranks: bool = False) -> list[dict[str, Any]]:
        """Return a finished job's results as a table takes them, one for each set of queries; [] without any.

        Args:
            ranks: with the rank of each query's first positive, for comparisons.
        """
        stored = self.outcome(job)
        if not stored:
            return []
        sets = stored.get("query_sets")
        found = [{**one, "name": job.row or job.run} for one in sets or [stored]]
        for one in found if ranks else ():
            folder = self.run_dir(job) / (one["queries_folder"] if sets else "")
            if (known := read_ranks(folder / "predictions.h5")) is not None:
                one[RANKS] = known
        return found

    def take_over(self, job: Job) -> Path | None:
        """Take a finished job of the same identity from another matrix; return its run folder, None without any."""
        for folder in self.elsewhere:
            for path in sorted(folder.glob(f"*/*{STATE}")):
                state = read_json(path)
                if not isinstance(state, dict) or state.get("digest") != self.identity(job):
                    continue
                theirs = Path(state.get("from") or path.with_name(path.name.removesuffix(STATE)))
                self.write_state(job, "finished", **{"from": str(theirs)})
                if state.get("status") == "finished" and self.product(job) is not None:
                    return theirs
                self.path(job, STATE).unlink()
        return None

    def set_aside(self, job: Job, *, always: bool = False) -> Path | None:
        """Move away what a job of other options left, so that nothing of it is taken for this job's.

        Args:
            always: also what it left with just these options.

        Returns:
            where it is now; None where there was nothing to move.
        """
        old = str(self._state(job).get("digest", "unknown"))
        run_dir = self.folder / job.folder
        if old == self.identity(job) and not always:
            return None
        self.path(job, STATE).unlink(missing_ok=True)
        if not run_dir.exists():
            return None
        aside = next(
            path
            for number in range(1, 10_000)
            if not (path := run_dir.with_name(f"{job.name}.{old}" + (f"-{number}" if number > 1 else ""))).exists()
        )
        run_dir.rename(aside)
        return aside

    def _state(self, job: Job) -> dict[str, Any]:
        state = read_json(self.path(job, STATE))
        return state if isinstance(state, dict) else {}


def read_json(path: Path) -> Any:
    """Return a file's content, None where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_results(content: Any) -> bool:
    try:
        return bool(content["dataset"]) and bool(content["recalls"][main_threshold(content)])
    except (KeyError, TypeError, StopIteration, ValueError, AttributeError):
        return False
