"""Run a matrix of trainings and tests and print one table: `python3 benchmark.py benchmarks/demo.yaml`."""

from __future__ import annotations

from collections.abc import Sequence

from vgbench.cli.exits import AGAIN, run_script


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Do it; what is slow to import is imported here, so that Ctrl-C meanwhile ends without a traceback."""
    from vgbench.cli.benchmark import main as work

    return work(arguments)


if __name__ == "__main__":
    run_script(main, AGAIN)
