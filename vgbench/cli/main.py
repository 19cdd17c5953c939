"""The command `vgbench`: which part of it, and then that part's own options."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from vgbench import __version__
from vgbench.cli.exits import AGAIN, ended
from vgbench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class _Command:
    """A part of the command: what the list says of it, the module whose `main` does it, what Ctrl-C says."""

    about: str
    module: str
    going_on: str = ""


COMMANDS = {
    "train": _Command("train a network, then test its best checkpoint", "vgbench.cli.train"),
    "eval": _Command("test a network on a dataset: recalls and a report", "vgbench.cli.eval", AGAIN),
    "benchmark": _Command("run a matrix of trainings and tests, one table", "vgbench.cli.benchmark", AGAIN),
    "datasets": _Command("make, check, describe and map datasets", "datasets_vg.__main__", AGAIN),
    "combine": _Command("one network out of several: soup, ensemble, whiten", "vgbench.combine.cli"),
    "leaderboard": _Command("one page of every result: recall against its cost", "vgbench.cli.leaderboard"),
    "describe": _Command("write the descriptors of a folder of images", "vgbench.describe", AGAIN),
    "export": _Command("write a network as ONNX, TorchScript or torch.export", "vgbench.cli.export"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one part of the command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    part = COMMANDS.get(words[0]) if words else None
    return ended(lambda: _run(words), part.going_on if part else "")


def script() -> None:
    """Run the command of this process, and end it."""
    sys.exit(main())


def _run(words: list[str]) -> int | None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    name = words[0]
    if name == "--version":
        print(f"vgbench {__version__}")
        return 0
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise UserError(f"vgbench {name}: no such command.{hint} Expected one of {', '.join(COMMANDS)}")
    # Only what runs is imported: torch alone takes seconds.
    status: int | None = importlib.import_module(COMMANDS[name].module).main(words[1:])
    return status


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{part.about}" for name, part in COMMANDS.items()]
    return "\n".join(
        [
            "usage: vgbench COMMAND [options]",
            "",
            "Train, test, re-rank and compare networks for visual geo-localization.",
            "",
            *lines,
            "",
            "`vgbench COMMAND --help` lists the options of each.",
        ]
    )
