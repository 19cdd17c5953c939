"""Run a matrix of trainings and tests and print one table.

    python3 benchmark.py benchmarks/demo.yaml
    python3 benchmark.py benchmarks/demo.yaml --list
    python3 benchmark.py benchmarks/demo.yaml --jobs 2 --only "gem*"

Started again after an interruption, it goes on where it stopped; what failed is tried again, what another matrix has
done already with the same options, data and networks is taken over.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vgbench.cli.commands import described
from vgbench.cli.exits import AGAIN, run_script
from vgbench.report.tables.costs import COSTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a matrix; returns 0, or 1 where a run failed."""
    typed = _parser().parse_args(arguments)
    # With torch, which is slow to import: help and mistakes do not wait for it.
    from vgbench.benchmark.matrix import read_matrix
    from vgbench.cli.campaigns import campaign_of, listing

    campaign = campaign_of(read_matrix(typed.matrix), typed)
    if typed.list:
        print(listing(campaign))
        return 0
    if typed.table:
        print(f"\n{campaign.write_tables()}\nwritten to {campaign.folder / 'table.md'} (.tex, .csv, .html)")
        if left := campaign.left():
            print(left)
        return 0
    table, failures = campaign.run()
    if typed.dry_run:
        print("dry run: one step of every training works" if not failures else "dry run: see above for what fails")
        return 1 if failures else 0
    print(f"\n{table}\nwritten to {campaign.folder / 'table.md'} (.tex, .csv, .html)")
    return 1 if failures else 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = described("benchmark", __doc__ or "")
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
        "--jobs", type=_count, metavar="N",
        help="jobs at a time: each on a GPU of its own, or sharing the processor's threads (default: 1; with --slurm "
        "and --ray as many as fit)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=_count, metavar="N",
        help="threads that each job computes with, wherever it runs, and processors that --slurm and --ray give it "
        "(default: OMP_NUM_THREADS; else the processor's threads shared by --jobs, with --ray 1, with --slurm its "
        "cpus_per_task). Another number gives other last digits",
    )  # fmt: skip
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--fork", action="store_true",
        help="jobs are forks of this process, which has PyTorch loaded: seconds less for each; without a GPU only",
    )  # fmt: skip
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
    run_script(main, AGAIN)
