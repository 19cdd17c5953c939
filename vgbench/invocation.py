"""How the commands are called here: as scripts of a clone, or by the command that `pip install` makes."""

from __future__ import annotations

import sys
from pathlib import Path

_SCRIPTS = ("train", "eval", "benchmark")


def command(name: str) -> str:
    """Return what calls a command, as this process was called itself: "python3 train.py" or "vgbench train"."""
    called = Path(sys.argv[0])
    installed = called.stem == "vgbench" or called.parent.name == "vgbench"  # the latter is `python3 -m vgbench`
    return f"vgbench {name}" if installed or name not in _SCRIPTS else f"python3 {name}.py"
