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
from vgbench.errors import UserError
from vgbench.models import network_from_options
from vgbench.options import Mark, marked, option_names
from vgbench.plain_yaml import read_yaml
from vgbench.report.options import ReportOptions
from vgbench.runs.parts import check_parts
from vgbench.runs.resolving import resolve
from vgbench.runs.settings import EvalSettings, RunOptions, Settings, TrainSettings, flat
from vgbench.training.options import TrainOptions

# Options that change how fast or where a run works, or what it writes besides, and not its numbers.
_WITHOUT_EFFECT = (*marked(Mark.NO_RESULT, RunOptions, DataOptions, TrainOptions), *option_names(ReportOptions))


def campaign_of(matrix: Matrix, typed: argparse.Namespace) -> Campaign:
    """Return the campaign that a command line asks for; raises UserError."""
    folder = typed.logs_folder / matrix.name
    if typed.dry_run:
        matrix, folder = matrix.dry(), folder / "dry_run"
    others = sorted(path for path in typed.logs_folder.glob("*") if path.is_dir() and path != folder)
    return Campaign(
        matrix, folder, program=PROGRAM, check=check_options, check_data=check_data, jobs=typed.jobs, gpus=_gpus(),
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


def _executor(typed: argparse.Namespace, folder: Path) -> Executor | None:
    """Return what runs the jobs elsewhere; None for this machine."""
    if typed.ray is not None:
        from vgbench.benchmark.ray_tasks import RayExecutor

        return RayExecutor(typed.ray, gpus=bool(_gpus()))
    if typed.slurm is not None:
        from vgbench.benchmark.slurm import SlurmExecutor

        options = read_yaml(typed.slurm)
        if not isinstance(options, dict):
            raise UserError(f"{typed.slurm}: expected `slurm_partition: ...`, one of submitit's options a line")
        return SlurmExecutor((folder / "slurm").resolve(), options)
    return None


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
    else:
        _settings(job.script, config)


def check_data(job: Job, config: Path) -> None:
    """Raise UserError where the dataset of a job is not there, or the network that it takes is too small for it."""
    part = job.script
    if part in COMBINED:
        data, splits = combine.images_of(part, flags(read_yaml(config)))
        for split in splits:
            _check_split(dataset_root(data), split, ("queries",))
        if part == "whiten" and [Path(maker).name for maker in job.makers] == ["train"]:
            maker = config.parents[1] / f"{job.makers[0]}.yaml"
            combine.check_whitened(flags(read_yaml(config)), _dimensions(_settings("train", maker)))
        return
    settings = _settings(part, config)
    root = dataset_root(settings.data)
    if isinstance(settings, EvalSettings):
        _check_split(root, settings.protocol.split, settings.data.queries_folder, settings.protocol.truth)
        return
    for split in ("val", "test"):
        _check_split(root, split, settings.data.queries_folder if split == "test" else ("queries",))
    for trained_on in train_roots(settings.data) if part == "train" else ():
        if not trained_on.is_dir():
            _check_split(trained_on, "train", ("queries",))  # says what is missing, and how to get it


def _dimensions(settings: Settings) -> int:
    """Return the dimensions of the descriptors of the network that a training makes, built without its weights."""
    import torch

    network = dataclasses.replace(settings.network, pretrain="none")
    with torch.random.fork_rng(devices=()):
        return int(network_from_options(network, settings.data.resize).descriptors_dim)


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
