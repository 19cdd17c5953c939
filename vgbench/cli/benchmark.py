"""Run a matrix of trainings and tests and print one table.

    python3 benchmark.py benchmarks/demo.yaml
    python3 benchmark.py benchmarks/demo.yaml --list
    python3 benchmark.py benchmarks/demo.yaml --jobs 2 --only "gem*"

Started again after an interruption, it goes on where it stopped; what failed is tried again, what another matrix has
done already with the same options, data and networks is taken over.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vgbench import combine
from vgbench.benchmark.campaign import PROGRAM, Campaign, flags
from vgbench.benchmark.executor import Executor
from vgbench.benchmark.matrix import COMBINED, Job, Matrix, read_matrix
from vgbench.benchmark.tables import TableOptions
from vgbench.cli.exits import run_script
from vgbench.cli.parser import read_command_line
from vgbench.data import dataset_root, train_root
from vgbench.data.digest import folder_digest
from vgbench.data.protocol import read_splits
from vgbench.errors import UserError
from vgbench.invocation import command
from vgbench.plain_yaml import read_yaml
from vgbench.report.tables.build import COSTS
from vgbench.runs.parts import check_parts
from vgbench.runs.resolving import resolve
from vgbench.runs.settings import EvalSettings, Settings, TrainSettings, flat

GOING_ON = "the same command goes on from here"
# Options that change how fast or where a run works, or what it writes besides, and not its numbers.
_WITHOUT_EFFECT = (
    "save_dir", "run_dir", "resume", "num_workers", "datasets_folder", "report_queries", "heat_maps", "heat_seconds",
    "save_preds", "pairs_out", "pairs_format", "pairs_num",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a matrix; returns 0, or 1 where a run failed."""
    typed = _parser().parse_args(arguments)
    matrix = read_matrix(typed.matrix)
    campaign = _campaign(matrix, typed)
    if typed.list:
        print(listing(campaign))
        return 0
    if typed.table:
        print(f"\n{campaign.write_tables()}\nwritten to {campaign.folder / 'table.md'} (.tex, .csv, .html)")
        return 0
    table, failures = campaign.run()
    if typed.dry_run:
        print("dry run: one step of every training works" if not failures else "dry run: see above for what fails")
        return 1 if failures else 0
    print(f"\n{table}\nwritten to {campaign.folder / 'table.md'} (.tex, .csv, .html)")
    return 1 if failures else 0


def _campaign(matrix: Matrix, typed: argparse.Namespace) -> Campaign:
    folder = typed.logs_folder / matrix.name
    if typed.dry_run:
        matrix, folder = matrix.dry(), folder / "dry_run"
    others = sorted(path for path in typed.logs_folder.glob("*") if path.is_dir() and path != folder)
    return Campaign(
        matrix, folder, program=PROGRAM, check=check_options, check_data=check_data, jobs=typed.jobs, gpus=_gpus(),
        only=typed.only, force=typed.force or typed.dry_run, facts=job_facts,
        tables=TableOptions(tuple(typed.values), tuple(typed.costs), typed.baseline),
        elsewhere=() if typed.dry_run else tuple(others), executor=_executor(typed, folder),
    )  # fmt: skip


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


def check_options(part: str, config: Path) -> None:
    """Refuse what train, eval or combine would refuse, before hours of other runs; raises UserError."""
    if part in COMBINED:
        combine.check_options(part, flags(read_yaml(config)))
    else:
        _settings(part, config)


def check_data(part: str, config: Path) -> None:
    """Raise UserError where the dataset of a job is not there."""
    if part in COMBINED:
        return
    settings = _settings(part, config)
    root = dataset_root(settings.data)
    for split in ("val", "test") if part == "train" else ("test",):
        _check_split(root, split, settings.data.queries_folder if split == "test" else ("queries",))
    if part == "train" and not train_root(settings.data).is_dir():
        _check_split(train_root(settings.data), "train", ("queries",))  # says what is missing, and how to get it


@functools.cache
def _check_split(root: Path, split: str, queries: tuple[str, ...]) -> None:
    read_splits(root, split, queries)


def job_facts(job: Job) -> Mapping[str, Any]:
    """Return what a job's result depends on: its options as resolved, and the images of its datasets."""
    if job.script in COMBINED:
        return {"options": job.options}
    settings = resolve(_type(job.script), _typed(job), {})
    known = {name: value for name, value in flat(settings).items() if name not in _WITHOUT_EFFECT}
    roots = {dataset_root(settings.data), train_root(settings.data)}
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    called = command("benchmark")
    parser = _Parser(
        prog=called,
        description=(__doc__ or "").replace("python3 benchmark.py", called),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("matrix", type=Path, help="the runs, a YAML file; see docs/benchmarks.md")
    parser.add_argument(
        "--logs_folder",
        type=Path,
        default=Path("logs/benchmarks"),
        metavar="PATH",
        help="everything is written to <logs_folder>/<name of the YAML file>/ (default: logs/benchmarks)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="print every job, its options and what is done; run nothing")
    what.add_argument("--table", action="store_true", help="write the tables of what is done; run nothing")
    what.add_argument("--dry_run", action="store_true", help="one step of every training on a few images")
    parser.add_argument(
        "--jobs", type=_jobs, default=1, metavar="N",
        help="jobs at a time: each on a GPU of its own, or sharing the processor's threads (default: 1)",
    )  # fmt: skip
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--slurm", type=Path, metavar="FILE.yaml",
        help="hand the jobs to SLURM, with these options of submitit (slurm_partition, slurm_time, gpus_per_node, ...)",
    )  # fmt: skip
    where.add_argument(
        "--ray", metavar="ADDRESS", nargs="?", const="auto",
        help="hand the jobs to a Ray cluster; without an address to the one of this machine",
    )  # fmt: skip
    parser.add_argument("--only", metavar="PATTERN", help="these runs and what they need; * and ? stand for anything")
    parser.add_argument("--force", action="store_true", help="run again what is done; the old results are kept aside")
    parser.add_argument(
        "--values", type=int, nargs="+", default=[1, 5], metavar="N", help="the N of the R@N in tables (default: 1 5)"
    )
    parser.add_argument(
        "--costs", nargs="*", choices=list(COSTS), default=["dim"], help="columns of costs in tables (default: dim)"
    )
    parser.add_argument(
        "--baseline", metavar="RUN", help="differences to this run in tables, with 95%% intervals over queries"
    )
    return parser


if __name__ == "__main__":
    run_script(main, GOING_ON)
