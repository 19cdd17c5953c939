"""Run a matrix of trainings and tests and print one table.

    python3 benchmark.py benchmarks/demo.yaml

Started again after an interruption, it goes on where it stopped; what failed is tried again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from vgbench import combine
from vgbench.benchmark.campaign import PROGRAM, Campaign, flags
from vgbench.benchmark.matrix import COMBINED, read_matrix
from vgbench.cli.exits import run_script
from vgbench.cli.parser import read_command_line
from vgbench.errors import UserError
from vgbench.invocation import command
from vgbench.runs.settings import EvalSettings, TrainSettings, resolve

GOING_ON = "the same command goes on from here"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a matrix; returns 0, or 1 where a run failed."""
    typed = _parser().parse_args(arguments)
    matrix = read_matrix(typed.matrix)
    folder = typed.logs_folder / matrix.name
    table, failures = Campaign(matrix, folder, program=PROGRAM, check=check_options).run()
    print(f"\n{table}\nwritten to {folder / 'table.md'}")
    return 1 if failures else 0


def check_options(part: str, config: Path) -> None:
    """Refuse what train, eval or combine would refuse, before hours of other runs; raises UserError."""
    if part in COMBINED:
        combine.check_options(part, flags(yaml.safe_load(config.read_text(encoding="utf-8"))))
        return
    settings_type = TrainSettings if part == "train" else EvalSettings
    resolve(settings_type, read_command_line(settings_type, "", ["--config", str(config)]), {})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


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
    return parser


if __name__ == "__main__":
    run_script(main, GOING_ON)
