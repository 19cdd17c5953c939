"""One network out of checkpoints: `python3 -m vgbench.combine`."""

from vgbench.combine.cli import check_options, main

__all__ = ["check_options", "main"]
