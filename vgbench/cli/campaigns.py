"""A matrix's runs as the command line wants them: what they depend on, where they run, what is refused beforehand."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgbench import combine
from vgbench.benchmark import forked
from vgbench.benchmark.campaign import PROGRAM, Campaign, flags
from vgbench.benchmark.executor import Executor
from vgbench.benchmark.forked import Main
from vgbench.benchmark.matrix import COMBINED, Job, Matrix
from vgbench.benchmark.tables import TableOptions
from vgbench.cli.parser import read_command_line
from vgbench.data import dataset_root, train_roots
from vgbench.data.digest import folder_digest
from vgbench.data.options import DataOptions
from vgbench.data.positives import BY_DISTANCE, GroundTruth
from vgbench.data.protocol import read_splits
from vgbench.errors import UserError, did_you_mean
from vgbench.models import network_from_options
from vgbench.models.from_options import check_same_network
from vgbench.models.options import NetworkOptions
from vgbench.models.releases import is_fetched
from vgbench.options import Mark, changed_options, marked, option_names
from vgbench.plain_yaml import read_yaml
from vgbench.report.options import ReportOptions
from vgbench.runs.parts import check_parts
from vgbench.runs.resolving import resolve
from vgbench.runs.settings import EvalSettings, RunOptions, Settings, TrainSettings, flat
from vgbench.training.options import TrainOptions
from vgbench.training.start import FREEZING
from vgbench.training.tracker import check_tracker

# Options that change how fast or where a run works, or what it writes besides, and not its numbers.
_WITHOUT_EFFECT = (*marked(Mark.NO_RESULT, RunOptions, DataOptions, TrainOptions), *option_names(ReportOptions))


def campaign_of(matrix: Matrix, typed: argparse.Namespace) -> Campaign:
    """Return the campaign that a command line asks for; raises UserError."""
    folder = typed.logs_folder / matrix.name
    if typed.baseline is not None and typed.baseline not in matrix.rows:
        raise UserError(
            f"--baseline {typed.baseline}: no run has this name.{did_you_mean(typed.baseline, matrix.rows)} "
            f"Expected one of {', '.join(matrix.rows)}"
        )
    if typed.dry_run:
        matrix, folder = matrix.dry(), folder / "dry_run"
    others = sorted(path for path in typed.logs_folder.glob("*") if path.is_dir() and path != folder)
    return Campaign(
        matrix, folder, program=PROGRAM, check=check_options, check_data=check_data, jobs=typed.jobs or 1,
        gpus=_gpus(), threads=_threads(typed),
        only=typed.only, force=typed.force or typed.dry_run, facts=job_facts,
        tables=TableOptions(tuple(typed.values), tuple(typed.costs), typed.baseline),
        elsewhere=() if typed.dry_run else tuple(others), executor=_executor(typed, folder), main=_main(typed),
    )  # fmt: skip


def _main(typed: argparse.Namespace) -> Main | None:
    """Return the command for jobs that are forks, with what they need already loaded; None where they are not."""
    if not typed.fork:
        return None
    if not hasattr(os, "fork") or _gpus():
        raise UserError("--fork: expected a machine without a GPU, on Linux or macOS; leave it out here")
    forked.load()
    from vgbench.cli.main import main

    return main


def _threads(typed: argparse.Namespace) -> int | None:
    """Return the threads of each job, whoever runs it: other numbers of them give other last digits.

    Said by --threads or OMP_NUM_THREADS; else those of the processors that a job is given: this machine's, shared by
    --jobs, and on a cluster one unless the file of --slurm gives more. None where one job has this machine alone.
    """
    if typed.threads is not None:
        return int(typed.threads)
    if "OMP_NUM_THREADS" in os.environ:
        return None
    if typed.slurm is not None:
        given = _slurm_options(typed.slurm).get("cpus_per_task")
        return given if isinstance(given, int) else 1
    if typed.ray is not None:
        return 1
    return max(1, (os.cpu_count() or 1) // typed.jobs) if (typed.jobs or 1) > 1 else None


def _executor(typed: argparse.Namespace, folder: Path) -> Executor | None:
    """Return what runs the jobs elsewhere; None for this machine."""
    at_a_time: dict[str, Any] = {} if typed.jobs is None else {"at_a_time": typed.jobs}
    if typed.ray is not None:
        from vgbench.benchmark.ray_tasks import RayExecutor

        return RayExecutor(typed.ray, cpus=typed.threads or 1, gpus=bool(_gpus()), **at_a_time)
    if typed.slurm is not None:
        from vgbench.benchmark.slurm import SlurmExecutor

        threads = {} if typed.threads is None else {"cpus_per_task": typed.threads}
        options = threads | _slurm_options(typed.slurm)
        return SlurmExecutor((folder / "slurm").resolve(), options, **at_a_time)
    return None


def _slurm_options(path: Path) -> dict[str, Any]:
    options = read_yaml(path)
    if not isinstance(options, dict):
        raise UserError(f"{path}: expected `slurm_partition: ...`, one of submitit's options a line")
    return options


def listing(campaign: Campaign) -> str:
    """Return every resolved job: its name, what became of it, and its options as the matrix sets them."""
    lines, statuses = [], campaign.statuses()
    for job, status in statuses:
        options = " ".join(flags(job.options))
        network = f" of {', '.join(job.makers)}" if job.makers else ""
        gpus = f" on {job.gpus} GPUs" if job.gpus > 1 else ""
        lines.append(f"{job.folder}: {status}\n    {job.script}{network}{gpus} {options}")
    counts = [status for _, status in statuses]
    done, failed = counts.count("done"), sum(one.startswith("failed") for one in counts)
    lines.append(f"{len(counts)} jobs: {done} done, {failed} failed, {len(counts) - done - failed} to do")
    return "\n".join(lines)


def check_options(job: Job, config: Path) -> None:
    """Refuse what train, eval or combine would refuse, before hours of other runs; raises UserError."""
    if job.script in COMBINED:
        combine.check_options(job.script, flags(read_yaml(config)), len(job.makers))
        return
    settings = _settings(job.script, config)
    start = None
    if isinstance(settings, TrainSettings):
        start = settings.training.start_from
        check_tracker(settings.training.wandb)
    elsewhere = job.makers or job.checkpoint or settings.run.resume or start
    if not elsewhere and not is_fetched(settings.network.method):
        _dimensions(settings)


def check_data(job: Job, config: Path) -> None:
    """Raise UserError where the dataset of a job is not there, or the network that it takes is too small for it."""
    part = job.script
    if part in COMBINED:
        data, splits = combine.images_of(part, flags(read_yaml(config)))
        for split in splits:
            _check_split(dataset_root(data), split, ("queries",))
        if part == "whiten" and [Path(maker).name for maker in job.makers] == ["train"]:
            combine.check_whitened(flags(read_yaml(config)), _dimensions(_maker(job, config)))
        return
    settings = _settings(part, config)
    if [Path(maker).name for maker in job.makers] == ["train"]:
        _check_taken(job, _maker(job, config))
    root = dataset_root(settings.data)
    if isinstance(settings, EvalSettings):
        _check_split(root, settings.protocol.split, settings.data.queries_folder, settings.protocol.truth)
        return
    for split in ("val", "test"):
        _check_split(root, split, settings.data.queries_folder if split == "test" else ("queries",))
    for trained_on in train_roots(settings.data) if part == "train" else ():
        if not trained_on.is_dir():
            _check_split(trained_on, "train", ("queries",))  # says what is missing, and how to get it


def _maker(job: Job, config: Path) -> Settings:
    """Return the settings of the training whose network a job takes."""
    return _settings("train", config.parents[1] / f"{job.makers[0]}.yaml")


def _check_taken(job: Job, maker: Settings) -> None:
    """Refuse options of another network than the one that a job takes from a run above."""
    free = FREEZING if job.script == "train" else ()
    given = {name: value for name, value in _typed(job).items() if name not in free}
    key = "start_from:" if job.script == "train" else "of:"
    check_same_network(Path(job.makers[0]), changed_options(maker.network), given, key)


def _dimensions(settings: Settings) -> int:
    """Return the dimensions of the network that options describe; raises UserError where its run would."""
    network = dataclasses.replace(settings.network, pretrain="none")
    if network.method is not None:
        network = dataclasses.replace(network, weights=None)
    return _dimensions_of(network, settings.data.resize)


@functools.cache
def _dimensions_of(network: NetworkOptions, resize: tuple[int, int]) -> int:
    """Build a network without its weights, and where its parts can be made so without memory for them."""
    import torch

    with torch.random.fork_rng(devices=()):
        try:
            with torch.device("meta"):
                return int(network_from_options(network, resize).descriptors_dim)
        except Exception:  # a part of one's own may want real numbers; what these say counts
            return int(network_from_options(network, resize).descriptors_dim)


@functools.cache
def _check_split(root: Path, split: str, queries: tuple[str, ...], truth: GroundTruth = BY_DISTANCE) -> None:
    read_splits(root, split, queries, truth)


def job_facts(job: Job) -> Mapping[str, Any]:
    """Return what a job's result depends on: its options as resolved, and the images of its datasets."""
    if job.script in COMBINED:
        return {"options": job.options}
    settings = resolve(_type(job.script), _typed(job), {})
    known = {name: value for name, value in flat(settings).items() if name not in _WITHOUT_EFFECT}
    roots = {dataset_root(settings.data), *train_roots(settings.data)}
    return {"options": known, "data": {root.name: folder_digest(root) for root in sorted(roots)}}


def _typed(job: Job) -> dict[str, Any]:
    """Return a job's options with the types that the command line gives them."""
    return dict(read_command_line(_type(job.script), "", flags_of(job)))


def flags_of(job: Job) -> list[str]:
    """Return a job's options as words, switches as the command line has them."""
    words = []
    for name, value in job.options.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            words += flags({name: value})
    return words


def _type(part: str) -> type[Settings]:
    return TrainSettings if part == "train" else EvalSettings


def _settings(part: str, config: Path) -> Settings:
    settings_type = _type(part)
    settings = resolve(settings_type, read_command_line(settings_type, "", ["--config", str(config)]), {})
    check_parts(settings)
    return settings


def _gpus() -> tuple[str, ...]:
    """Return the names of the GPUs that this process may use."""
    import torch

    return tuple(map(str, range(torch.cuda.device_count()))) if torch.cuda.is_available() else ()
