"""A matrix of runs, as a YAML file says it: read, checked, and turned into jobs.

A file holds `runs`, and where wanted `defaults` and `published`:

    defaults:
      all: {datasets_folder: datasets}      # options of both doors
      train: {epochs_num: 5}                # of train.py only
      eval: {recall_values: [1, 5]}         # of eval.py only
    runs:
      - name: gem
        train: {dataset_name: pitts30k, aggregation: gem}
        eval: [{dataset_name: tokyo_xs}, {dataset_name: msls}]
      - name: trained elsewhere
        checkpoint: logs/default/2024-01-01_12-00-00/best_model.pth
        eval: [{dataset_name: tokyo_xs}]
      - name: untrained
        eval: [{dataset_name: tokyo_xs, backbone: efficientnet_lite0, aggregation: gem}]
    published: [resnet18-gem]               # or `all`: other people's numbers below ours

The options are the doors' own, by their flat names. A run's training ends with its own test, so `eval` may be left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vgbench.errors import UserError
from vgbench.report.published import published_results

Options = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*( [A-Za-z0-9._+=-]+)*")
# What the matrix itself sets for every job.
_OURS = ("config", "run_dir", "resume", "save_dir")


@dataclass(frozen=True)
class Job:
    """One call of one door.

    Attributes:
        run: name of the run that it belongs to.
        door: "train" or "eval".
        name: "train", "eval-1", ...: the name of its folder within the run's.
        options: the door's options by flat name, without those that the matrix sets.
        checkpoint: what an evaluation tests; None for the best model of the run's own training, or no training at all.
        after: the digest of the training that an evaluation builds on, "" without one.
    """

    run: str
    door: str
    name: str
    options: Options
    checkpoint: Path | None = None
    after: str = ""

    @property
    def digest(self) -> str:
        """What the job computes, in 16 hex digits: another digest means that a stored result is of other options."""
        state: list[Any] = [self.door, self.options, self.after]
        if self.checkpoint is not None:
            found = self.checkpoint.stat() if self.checkpoint.is_file() else None
            state += [str(self.checkpoint), found and [found.st_size, found.st_mtime_ns]]
        return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Matrix:
    """The checked content of one matrix file.

    Attributes:
        name: the file's name without extension.
        jobs: in the order in which they run; a training comes right before the evaluations that build on it.
        published: rows for `markdown.results_table`.
    """

    name: str
    jobs: tuple[Job, ...]
    published: list[dict[str, Any]] = field(default_factory=list)

    @property
    def runs(self) -> list[str]:
        """Names of the runs, in order."""
        return list(dict.fromkeys(job.run for job in self.jobs))


def read_matrix(path: Path) -> Matrix:
    """Read and check a matrix file.

    Raises:
        UserError: the file cannot be read, or something in it is not as the module's docstring says.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path}: cannot be read as YAML ({reason}). Expected a file like benchmarks/demo.yaml"
        ) from error
    content = {"runs": content} if isinstance(content, list) else content
    where = str(path)
    _check_keys(where, content, {"runs", "defaults", "published"}, needed="runs")
    defaults = content.get("defaults") or {}
    _check_keys(f"{where}: defaults", defaults, {"all", "train", "eval"})
    both, *apart = (_options(f"{where}: defaults: {key}", defaults.get(key)) for key in ("all", "train", "eval"))
    runs = content["runs"]
    if not isinstance(runs, list) or not runs:
        raise UserError(f"{where}: runs: expected a list of at least one `- name: ...`")
    jobs: list[Job] = []
    for number, run in enumerate(runs, start=1):
        jobs += _jobs_of(f"{where}: run {number}", run, both | apart[0], both | apart[1])
    _check_distinct(where, [str(run["name"]) for run in runs])
    return Matrix(path.stem, tuple(jobs), _published(where, content.get("published")))


def _jobs_of(where: str, run: Any, train_defaults: Options, eval_defaults: Options) -> list[Job]:
    _check_keys(where, run, {"name", "train", "checkpoint", "eval"}, needed="name")
    name = str(run["name"])
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}: name {name!r} cannot name a folder. Expected letters, digits and . _ + = - inside")
    where = f"{where} ({name})"
    if "train" in run and "checkpoint" in run:
        raise UserError(f"{where}: expected `train: {{options}}` or `checkpoint: <file.pth>`, found both")
    evals = run.get("eval") or []
    if not isinstance(evals, list):
        raise UserError(f"{where}: eval: expected a list of `- {{dataset_name: ...}}`, found {type(evals).__name__}")
    jobs = []
    checkpoint = None
    if "train" in run:
        jobs.append(Job(name, "train", "train", train_defaults | _options(f"{where}: train", run["train"])))
    elif "checkpoint" in run:
        checkpoint = Path(str(run["checkpoint"]))
        if not checkpoint.is_file():
            raise UserError(
                f"{where}: checkpoint {checkpoint}: no such file. Expected what train.py writes, best_model.pth"
            )
    if not jobs and not evals:
        raise UserError(f"{where}: neither `train:` nor `eval:`, so there is nothing to do. Expected either or both")
    after = jobs[0].digest if jobs else ""
    for number, options in enumerate(evals, start=1):
        options = eval_defaults | _options(f"{where}: eval {number}", options)
        jobs.append(Job(name, "eval", f"eval-{number}", options, checkpoint, after))
    return jobs


def _check_keys(where: str, content: Any, known: set[str], needed: str | None = None) -> None:
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected `{' | '.join(sorted(known))}: ...`, found {type(content).__name__}")
    unknown = sorted(set(map(str, content)) - known)
    if unknown:
        raise UserError(f"{where}: {', '.join(unknown)} is not known. Expected {', '.join(sorted(known))}")
    if needed is not None and content.get(needed) is None:
        raise UserError(f"{where}: {needed} is missing")


def _options(where: str, content: Any) -> Options:
    """Check a mapping of flat option names to plain values."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected `option: value`, found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise UserError(f"{where}: {key!r} is no option name. Expected one as in train.py --help, without dashes")
        if key in _OURS:
            raise UserError(f"{where}: {key} is set by the benchmark itself; take it out")
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, str | int | float) for part in parts):
            raise UserError(f"{where}: {key}: expected a word, a number or a list of them")
    return content


def _check_distinct(where: str, names: list[str]) -> None:
    # Two names that differ in case alone are one folder on some file systems.
    folded = [name.casefold() for name in names]
    twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
    if twice:
        raise UserError(f"{where}: the name {twice[0]} is there more than once; every run needs its own")


def _published(where: str, wanted: Any) -> list[dict[str, Any]]:
    if not wanted:
        return []
    if wanted != "all" and not (isinstance(wanted, list) and all(isinstance(one, str) for one in wanted)):
        raise UserError(f"{where}: published: expected `all` or a list of models")
    try:
        return published_results(None if wanted == "all" else wanted)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
