"""How the commands are called here: as scripts of a clone, or by the command that `pip install` makes."""

from __future__ import annotations

import sys
from pathlib import Path

_IN_A_CLONE = {
    "train": "python3 train.py",
    "eval": "python3 eval.py",
    "benchmark": "python3 benchmark.py",
    "datasets": "python3 -m datasets_vg",
    "combine": "python3 -m vgbench.combine",
    "describe": "python3 -m vgbench.describe",
}


def command(name: str) -> str:
    """Return what calls a command, as this process was called itself: "python3 train.py" or "vgbench train"."""
    called = Path(sys.argv[0])
    installed = called.stem == "vgbench" or called.parent.name == "vgbench"  # the latter is `python3 -m vgbench`
    return f"vgbench {name}" if installed else in_a_clone(name)


def in_a_clone(name: str) -> str:
    """Return what calls a command where nothing is installed, as the modules' docstrings write it."""
    return _IN_A_CLONE.get(name, f"python3 -m vgbench {name}")


def as_called(name: str, text: str) -> str:
    """Return a command's description with its examples as this process was called itself."""
    return text.replace(in_a_clone(name), command(name))
