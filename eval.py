"""Test a network on a dataset: `python3 eval.py --help`."""

from __future__ import annotations

from collections.abc import Sequence

from vgbench.cli.exits import AGAIN, run_script


def main(arguments: Sequence[str] | None = None) -> None:
    """Do it; what is slow to import is imported here, so that Ctrl-C meanwhile ends without a traceback."""
    from vgbench.cli.eval import main as work

    work(arguments)


if __name__ == "__main__":
    run_script(main, AGAIN)
