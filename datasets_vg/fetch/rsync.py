"""Transfers from servers that only the rsync program can talk to."""

from __future__ import annotations

import logging
import shutil
import subprocess
import time
from pathlib import Path

from datasets_vg.sources import Rsync
from vgbench.errors import UserError

logger = logging.getLogger(__name__)

ATTEMPTS = 3
WAIT = 5.0
_CUT = {10: "no connection", 12: "the stream broke", 30: "timed out", 35: "timed out", 24: "files vanished"}


def transfer(source: Rsync, folder: Path, by_hand: str = "") -> Path:
    """Bring a folder or a file of an rsync server to `<folder>/<name>` and return that; what has arrived is not asked
    for again.

    Raises:
        UserError: rsync is not installed, or the server does not answer or does not have it.
    """
    program = shutil.which("rsync")
    if program is None:
        raise UserError(
            f"{source.url}: that server speaks rsync only, and the rsync program is not installed. Expected it on the "
            f"PATH; to install it: sudo apt install rsync (or dnf, brew, conda install rsync). {by_hand}"
        )
    target = folder / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    # The folder's own name is the last part of the address, which need not be the name it gets here.
    is_file = "." in source.url.rpartition("/")[2]
    ends = [source.url, str(target)] if is_file else [source.url.rstrip("/") + "/", f"{target}/"]
    options = ["-rhz", "--info=progress2", "--ignore-existing", "--timeout=120"]
    for attempt in range(1, ATTEMPTS + 1):
        done = subprocess.run([program, *options, "--", *ends], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode == 0:
            return target
        if done.returncode not in _CUT or attempt == ATTEMPTS:
            break
        logger.warning("%s: %s; going on in %.0f s", source.url, _CUT[done.returncode], WAIT)
        time.sleep(WAIT)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    raise UserError(
        f"{source.url}: rsync ended with status {done.returncode} ({lines[0][:200] if lines else 'no message'}). "
        f"Expected the server to answer; the same command goes on from here. {by_hand}"
    )
