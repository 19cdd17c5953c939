"""Make one network out of checkpoints; `eval.py --resume` loads it like any other.

python3 -m vgbench.combine soup --checkpoints a.pth b.pth c.pth --output soup.pth
python3 -m vgbench.combine soup --soup greedy --recall 1 --checkpoints a.pth b.pth --output soup.pth
python3 -m vgbench.combine ensemble --checkpoints a.pth b.pth --weights 2 1 --output both.pth
python3 -m vgbench.combine whiten --checkpoints a.pth --night 1 --output whitened.pth
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence

from vgbench.cli.commands import parse
from vgbench.cli.exits import ended
from vgbench.combine.commands import combine_command
from vgbench.combine.options import EnsembleOptions, SoupOptions
from vgbench.flags import build_options
from vgbench.invocation import as_called, command

LOG = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 (a mistake, told in one line), 130 (interrupted)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return ended(lambda: _combine(arguments), "nothing was written")


def _combine(arguments: Sequence[str] | None) -> None:
    given = parse(combine_command(command("combine"), as_called("combine", __doc__ or "")), arguments)
    values, output = given.values, given.values["output"]
    from vgbench.combine.making import make  # with torch, which is slow to import: help and mistakes do not wait for it

    make(given.command, values)
    LOG.info("%s: written; %s --resume=%s", output, command("eval"), shlex.quote(str(output)))


def check_options(command: str, words: Sequence[str]) -> None:
    """Refuse what `main` would refuse of a command's options but for the files; raises UserError."""
    words = [command, *words, "--checkpoints", "a.pth", "--output", "b.pth"]
    values = parse(combine_command("combine", ""), words).values
    from vgbench.combine.files import data_options
    from vgbench.combine.making import whitening_options

    data_options(values, {})
    if command == "whiten":
        whitening_options(values)
    else:
        build_options(SoupOptions if command == "soup" else EnsembleOptions, values)
