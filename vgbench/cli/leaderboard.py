"""One page of every result below a folder: recall against descriptor size and time.

python3 -m vgbench leaderboard logs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vgbench.cli.exits import run_script
from vgbench.errors import UserError
from vgbench.invocation import command
from vgbench.report.leaderboard import write_leaderboard


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; returns 0."""
    parser = _Parser(
        prog=command("leaderboard"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("logs"), help="of the runs (default: logs)")
    typed = parser.parse_args(arguments)
    print(f"written to {write_leaderboard(typed.folder)}, with drawings for papers (.svg, .pdf) beside it")
    return 0


if __name__ == "__main__":
    run_script(main)
