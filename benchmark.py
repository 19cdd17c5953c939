"""Run a matrix of trainings and tests and print one table.

    python3 benchmark.py benchmarks/demo.yaml

Started again after an interruption, it goes on where it stopped; what failed is tried again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from commons import run_door
from parser import EvalSettings, TrainSettings, read_command_line, resolve
from vgbench import combine
from vgbench.benchmark.campaign import Campaign, flags
from vgbench.benchmark.matrix import COMBINED, read_matrix

HERE = Path(__file__).resolve().parent


def check_options(door: str, config: Path) -> None:
    """Refuse what a door would refuse, before hours of other runs; raises UserError."""
    if door in COMBINED:
        combine.check_options(door, flags(yaml.safe_load(config.read_text(encoding="utf-8"))))
        return
    settings_type = TrainSettings if door == "train" else EvalSettings
    resolve(settings_type, read_command_line(settings_type, "", ["--config", str(config)]), {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrix", type=Path, help="the runs, a YAML file; see benchmarks/demo.yaml")
    parser.add_argument(
        "--logs_folder",
        type=Path,
        default=Path("logs/benchmarks"),
        metavar="PATH",
        help="everything is written to <logs_folder>/<name of the YAML file>/ (default: logs/benchmarks)",
    )
    arguments = parser.parse_args()
    matrix = read_matrix(arguments.matrix)
    folder = arguments.logs_folder / matrix.name
    table, failures = Campaign(matrix, folder, doors=HERE, check=check_options).run()
    print(f"\n{table}\nwritten to {folder / 'table.md'}")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    run_door(main)
