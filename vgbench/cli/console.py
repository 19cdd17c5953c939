"""What a command prints while it runs."""

from __future__ import annotations

import contextlib
import logging
import sys

from tqdm import tqdm

from vgbench import parallel

LOG = logging.getLogger("vgbench")


class _AboveProgressBars(logging.Handler):
    """Prints records through tqdm, so that they do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads any longer (`| head -1`), or the disk is full
            tqdm.write(self.format(record), file=sys.stdout)


def log_to_console() -> None:
    """Send INFO and above to the console, without breaking progress bars."""
    console = _AboveProgressBars()
    console.setFormatter(logging.Formatter("%(message)s"))
    console.setLevel(logging.INFO if parallel.is_main() else logging.ERROR)  # ranks would all say the same
    LOG.handlers = [console]
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False
