"""One page of every result below a folder: recall against descriptor size and time.

python3 -m vgbench leaderboard logs
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vgbench.cli.commands import described
from vgbench.cli.exits import run_script


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; returns 0."""
    parser = described("leaderboard", __doc__ or "")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("logs"), help="the folder of the runs (default: logs)"
    )
    typed = parser.parse_args(arguments)
    from vgbench.report.leaderboard import write_leaderboard  # help and mistakes do not wait for it

    print(f"written to {write_leaderboard(typed.folder)}, with drawings for papers (.svg, .pdf) beside it")
    return 0


if __name__ == "__main__":
    run_script(main)
