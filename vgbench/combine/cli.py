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
from collections.abc import Mapping, Sequence
from typing import Any

from vgbench.cli.commands import parse
from vgbench.cli.exits import ended
from vgbench.combine.commands import combine_command
from vgbench.combine.options import EnsembleOptions, SoupOptions
from vgbench.data.options import DataOptions
from vgbench.flags import build_options
from vgbench.invocation import as_called, command
from vgbench.runtime_options import RuntimeOptions

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


def check_options(command: str, words: Sequence[str], networks: int) -> None:
    """Refuse what `main` would refuse of a command's options but for the files; raises UserError.

    Args:
        networks: how many are to be combined.
    """
    values = _without_files(command, words, networks)
    from vgbench.combine.files import data_options
    from vgbench.combine.making import whitening_options
    from vgbench.models.ensemble import member_weights

    data_options(values, {})
    build_options(RuntimeOptions, values)
    if command == "whiten":
        whitening_options(values)
    elif command == "soup":
        build_options(SoupOptions, values)
    else:
        member_weights(build_options(EnsembleOptions, values).weights, networks)


def check_whitened(words: Sequence[str], dim: int) -> None:
    """Refuse what `whiten` would refuse of a network of `dim` dimensions, before that is trained; raises UserError."""
    from vgbench.combine.making import whitening_options
    from vgbench.combine.whiten import check_dim

    check_dim(dim, whitening_options(_without_files("whiten", words, 1))[0].dim)


def images_of(command: str, words: Sequence[str]) -> tuple[DataOptions, tuple[str, ...]]:
    """Return the dataset that a command's options name, and which of its splits are read; none where none is named."""
    values = _without_files(command, words, 2)
    from vgbench.combine.files import data_options

    splits = {
        "train": command == "whiten" or values.get("batch_norm") == "reestimate",
        "val": values.get("soup") == "greedy",
    }
    named = "dataset_name" in values
    return data_options(values, {}), tuple(split for split, read in splits.items() if read and named)


def _without_files(command: str, words: Sequence[str], networks: int) -> Mapping[str, Any]:
    """Return the values of a command's options, whose files are not there yet."""
    files = ["--checkpoints", *(f"{number}.pth" for number in range(networks)), "--output", "made.pth"]
    return parse(combine_command("combine", ""), [command, *words, *files]).values
