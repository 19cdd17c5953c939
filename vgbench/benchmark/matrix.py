"""A matrix of runs, as a YAML file says it: read, checked, and turned into jobs.

A file holds `runs`, and where wanted `defaults`, `tests` and `published`:

    defaults:
      all: {datasets_folder: datasets}      # options of both scripts
      train: {epochs_num: 5}                # of train.py only
      eval: {recall_values: [1, 5]}         # of eval.py only
    tests: [{dataset_name: tokyo_xs}, {dataset_name: msls}]
    runs:
      - name: gem
        train: {dataset_name: pitts30k, aggregation: gem}
        eval: [{dataset_name: tokyo_xs}]
      - name: trained elsewhere
        checkpoint: logs/default/2024-01-01_12-00-00/best_model.pth
        eval: [{dataset_name: tokyo_xs}]
      - name: gem at three scales
        of: gem                             # the network of a run above
        eval: {scales: [1, 0.83, 0.71]}     # every one of `tests`, with these options besides
      - name: gem trained on
        start_from: gem                     # this training begins with the network of a run above
        train: {dataset_name: msls}
      - name: gem taught
        distill_from: gem                   # the teacher of this training is the network of a run above
        train: {dataset_name: msls, train_mode: distill}
      - name: both
        ensemble: {runs: [gem, netvlad]}    # or `soup:`, or `whiten:` of one; options of `python3 -m vgbench.combine`
        eval: [{dataset_name: tokyo_xs}]
      - name: untrained
        eval: [{dataset_name: tokyo_xs, backbone: efficientnet_lite0, aggregation: gem}]
    published: [resnet18-gem]               # or `all`: other people's numbers below ours

The options are the scripts' own, by their flat names; keywords of a part are a list or a mapping: `loss_args: {margin:
0.2}`. A run's training ends with its own test, so `eval` may be left out, and `tests: []` leaves out everybody's.
`extends`, `variables`, `grid` and `seeds` stand in `language`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vgbench.arguments import as_words
from vgbench.benchmark.language import expand
from vgbench.benchmark.published import published_results
from vgbench.combine.options import EnsembleOptions, OutputOptions, SoupOptions, options_of
from vgbench.errors import UserError
from vgbench.files import is_file
from vgbench.options import Mark, marked
from vgbench.plain_yaml import parse_yaml
from vgbench.runs.settings import RunOptions

Options = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*( [A-Za-z0-9._+=-]+)*")
# What the matrix itself sets for every job.
_OURS = ("config", *marked(Mark.BY_MATRIX, RunOptions, OutputOptions, SoupOptions, EnsembleOptions))
_DEFAULTS = ("all", "train", "eval")
COMBINED = ("ensemble", "soup", "whiten")
_OF_ONE = ("whiten",)
# What a training may take from a run above: the network that it begins with, and its teacher, which is the last.
_OF_TRAINING = ("start_from", "distill_from")
# Where a run's network comes from; without any of them it is untrained.
_SOURCES = ("train", "checkpoint", "of", *COMBINED)


@dataclass(frozen=True)
class Job:
    """One call of one script.

    Attributes:
        run: name of the run that it belongs to.
        script: "train", "eval", or what `python3 -m vgbench.combine` is to do: "ensemble", "soup" or "whiten".
        name: "train", "eval-1", ...: the name of its folder within the run's.
        options: the script's options by flat name, without those that the matrix sets.
        checkpoint: what an evaluation tests, where no job of the matrix makes it.
        makers: folders, `<run>/<job>`, of the jobs whose networks it takes: one to test, whiten or train on, several to
            combine.
        after: the digests of these jobs, "" without any.
        row: the row of the table that the job's results go into; runs of several seeds share one.
        gpus: how many it runs on, one rank each.
        taught: whether the last of `makers` is the teacher of a training.
    """

    run: str
    script: str
    name: str
    options: Options
    checkpoint: Path | None = None
    makers: tuple[str, ...] = ()
    after: str = ""
    row: str = ""
    gpus: int = 1
    taught: bool = False

    @property
    def folder(self) -> str:
        """Where it works, below the matrix's folder."""
        return f"{self.run}/{self.name}"

    @property
    def digest(self) -> str:
        """What the job computes, in 16 hex digits: another digest means that a stored result is of other options."""
        state: list[Any] = [self.script, self.options, self.after]
        if self.checkpoint is not None:
            state += self.checkpoint_facts()
        if self.gpus > 1:
            state.append(self.gpus)
        if self.taught:
            state.append("taught")
        return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def checkpoint_facts(self) -> list[Any]:
        """Return what tells one file of weights from another: its path, size and time."""
        if self.checkpoint is None:
            return []
        found = self.checkpoint.stat() if self.checkpoint.is_file() else None
        return [str(self.checkpoint), found and [found.st_size, found.st_mtime_ns]]


@dataclass(frozen=True)
class Matrix:
    """The checked content of one matrix file.

    Attributes:
        name: the file's name without extension.
        jobs: in the order in which they run; what makes a network comes before what takes it.
        published: other people's rows for `report.tables.build_table`.
        path: of the file.
    """

    name: str
    jobs: tuple[Job, ...]
    published: list[dict[str, Any]] = field(default_factory=list)
    path: Path = Path("matrix.yaml")

    def dry(self) -> Matrix:
        """Return the trainings alone, each cut to one step; those that begin with a combined network are left out."""
        jobs: list[Job] = []
        for job in self.jobs:
            if job.script == "train" and set(job.makers) <= {one.folder for one in jobs}:
                jobs.append(replace(job, options={**job.options, "dry_run": True}))
        return replace(self, jobs=tuple(jobs))

    @property
    def runs(self) -> list[str]:
        """Names of the runs, in order."""
        return list(dict.fromkeys(job.run for job in self.jobs))

    @property
    def rows(self) -> list[str]:
        """Names of the rows of the table, in order."""
        return list(dict.fromkeys(job.row for job in self.jobs))


def read_matrix(path: Path) -> Matrix:
    """Read and check a matrix file.

    Raises:
        UserError: the file cannot be read, or something in it is not as the module's docstring says.
    """
    content = expand(path, _read)
    where = str(path)
    _check_keys(where, content, {"runs", "defaults", "tests", "published"}, needed="runs")
    defaults = content.get("defaults") or {}
    _check_keys(f"{where}: defaults", defaults, set(_DEFAULTS))
    both, train, evaluation = (_options(f"{where}: defaults: {key}", defaults.get(key)) for key in _DEFAULTS)
    reader = _Reader(both, both | train, both | evaluation, _tests(where, content.get("tests")), {})
    runs = content["runs"]
    if not isinstance(runs, list) or not runs:
        raise UserError(f"{where}: runs: expected a list of at least one `- name: ...`")
    jobs = [job for number, run in enumerate(runs, start=1) for job in reader.jobs(f"{where}: run {number}", run)]
    _check_distinct(where, [str(run["name"]) for run in runs])
    return Matrix(path.stem, tuple(jobs), _published(where, content.get("published")), path)


def _read(path: Path) -> Any:
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path}: cannot be read as YAML ({reason}). Expected a file like benchmarks/demo.yaml"
        ) from error


@dataclass(frozen=True)
class _Source:
    """Where a run's network comes from: a job of the matrix, a file, or (both None) it is untrained."""

    maker: Job | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True)
class _Reader:
    """Turns runs into jobs, one after the other.

    Attributes:
        both: the defaults of everything.
        train: the defaults of a training.
        evaluation: the defaults of an evaluation.
        tests: what `eval: {options}` stands for; None where the file says nothing of them.
        networks: where the network of every run so far comes from, by the run's name.
    """

    both: Options
    train: Options
    evaluation: Options
    tests: list[Options] | None
    networks: dict[str, _Source]

    def jobs(self, where: str, run: Any) -> list[Job]:
        """Return the jobs of one run: its network, then its evaluations; raises UserError for what is no run."""
        _check_keys(where, run, {"name", "eval", "row", "seed", "gpus", *_OF_TRAINING, *_SOURCES}, needed="name")
        name, row = str(run["name"]), str(run.get("row", run["name"]))
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{where}: name {name!r} cannot name a folder. Expected letters, digits and . _ + = - inside"
            )
        where = f"{where} ({name})"
        evals = self._evals(where, run.get("eval"))
        gpus = run.get("gpus", 1)
        if not isinstance(gpus, int) or isinstance(gpus, bool) or gpus < 1:
            raise UserError(f"{where}: gpus: expected a whole number of at least 1, found {gpus!r}")
        source = self.networks[name] = self._source(where, name, row, run)
        jobs = [source.maker] if source.maker is not None and source.maker.run == name else []
        if not jobs and not evals:
            raise UserError(
                f"{where}: neither `train:` nor `eval:`, so there is nothing to do. Expected either or both"
            )
        taken = _taken([source.maker])
        jobs += [
            Job(name, "eval", f"eval-{number}", self.evaluation | options, source.checkpoint, *taken, row)
            for number, options in enumerate(evals, start=1)
        ]
        jobs = [job if job.script in COMBINED else replace(job, gpus=gpus) for job in jobs]
        if source.maker is not None and source.maker.run == name:
            self.networks[name] = _Source(jobs[0])
        return jobs

    def _evals(self, where: str, content: Any) -> list[Options]:
        if content is None:
            return []
        if isinstance(content, list):
            return [_options(f"{where}: eval {number}", options) for number, options in enumerate(content, start=1)]
        options = _options(f"{where}: eval", content)
        if self.tests is None:
            raise UserError(
                f"{where}: eval: there are no `tests:`. Expected them, or a list of `- {{dataset_name: ...}}`"
            )
        return [test | options for test in self.tests]

    def _source(self, where: str, name: str, row: str, run: Options) -> _Source:
        given = [key for key in _SOURCES if key in run]
        if len(given) > 1:
            raise UserError(f"{where}: found {' and '.join(given)}. Expected at most one of {', '.join(_SOURCES)}")
        kind, content = (given[0], run[given[0]]) if given else ("", None)
        stray = [key for key in _OF_TRAINING if key in run and kind != "train"]
        if stray:
            raise UserError(
                f"{where}: {stray[0]}: is of a training. Expected `train:` beside it, or `of:` to test only"
            )
        if kind == "train":
            options = self.train | _options(f"{where}: train", content)
            sources = {key: self._earlier(f"{where}: {key}", run[key]) for key in _OF_TRAINING if key in run}
            options |= {key: str(one.checkpoint) for key, one in sources.items() if one.checkpoint is not None}
            taken = _taken([one.maker for one in sources.values()])
            taught = "distill_from" in sources and sources["distill_from"].maker is not None
            return _Source(Job(name, "train", "train", options, None, *taken, row, taught=taught))
        if kind == "checkpoint":
            return _Source(checkpoint=_checkpoint(where, content))
        if kind == "of":
            return self._earlier(where, content)
        return self._combined(f"{where}: {kind}", name, row, kind, content) if kind else _Source()

    def _combined(self, where: str, name: str, row: str, kind: str, content: Any) -> _Source:
        known = {option: value for option, value in self.both.items() if option in options_of(kind)}
        options = known | _options(where, content)
        runs = options.pop("runs", None)
        one = kind in _OF_ONE
        if not isinstance(runs, list) or not runs or (len(runs) == 1) != one:
            expected = "[<run above>]`, just one" if one else "[<run above>, <run above>, ...]`, two at least"
            raise UserError(f"{where}: expected `runs: {expected}")
        makers = [self._earlier(where, run).maker for run in runs]
        if None in makers:
            raise UserError(f"{where}: {runs[makers.index(None)]} makes no network. Expected runs with `train:`")
        return _Source(Job(name, kind, kind, options, None, *_taken(makers), row))

    def _earlier(self, where: str, name: Any) -> _Source:
        source = self.networks.get(str(name), _Source())
        if source == _Source():
            known = [name for name, source in self.networks.items() if source != _Source()]
            raise UserError(
                f"{where}: no run above with a network is named {name}. Expected one of {', '.join(known) or 'them'}"
            )
        return source


def _taken(makers: Sequence[Job | None]) -> tuple[tuple[str, ...], str]:
    """Return a job's `makers` and `after`."""
    found = [maker for maker in makers if maker is not None]
    return tuple(maker.folder for maker in found), " ".join(maker.digest for maker in found)


def _checkpoint(where: str, content: Any) -> Path:
    checkpoint = Path(str(content))
    if not is_file(checkpoint):
        raise UserError(
            f"{where}: checkpoint {checkpoint}: no such file. Expected what train.py writes, best_model.pth"
        )
    return checkpoint


def _tests(where: str, content: Any) -> list[Options] | None:
    if content is None:
        return None
    if not isinstance(content, list):
        raise UserError(f"{where}: tests: expected a list of `- {{dataset_name: ...}}`, found {type(content).__name__}")
    return [_options(f"{where}: test {number}", options) for number, options in enumerate(content, start=1)]


def _check_keys(where: str, content: Any, known: set[str], needed: str | None = None) -> None:
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected `{' | '.join(sorted(known))}: ...`, found {type(content).__name__}")
    unknown = sorted(set(map(str, content)) - known)
    if unknown:
        raise UserError(f"{where}: {', '.join(unknown)} is not known. Expected {', '.join(sorted(known))}")
    if needed is not None and content.get(needed) is None:
        raise UserError(f"{where}: {needed} is missing")


def _options(where: str, content: Any) -> Options:
    """Check a mapping of flat option names to plain values, and return it with keywords of parts as words."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected `option: value`, found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise UserError(f"{where}: {key!r} is no option name. Expected one as in train.py --help, without dashes")
        if key in _OURS:
            raise UserError(f"{where}: {key} is set by the benchmark itself; take it out")
        of_part = isinstance(value, dict) and key.endswith("_args")
        for one in value.values() if of_part else [value]:
            _check_plain(f"{where}: {key}", one)
    return {key: as_words(one) or None if isinstance(one, dict) else one for key, one in content.items()}


def _check_plain(where: str, value: Any) -> None:
    for part in value if isinstance(value, list) else [value]:
        if part is not None and not isinstance(part, str | int | float):
            raise UserError(f"{where}: expected a word, a number or a list of them")


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
