"""Train a network for visual geo-localization, then test its best checkpoint: `python3 train.py --help`."""

from __future__ import annotations

from collections.abc import Sequence

from vgbench.cli.exits import run_script


def main(arguments: Sequence[str] | None = None) -> None:
    """Do it; what is slow to import is imported here, so that Ctrl-C meanwhile ends without a traceback."""
    from vgbench.cli.train import main as work

    work(arguments)


if __name__ == "__main__":
    run_script(main)
