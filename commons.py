"""What the doors share: how they end, the console, the run folder, seeding."""

from __future__ import annotations

import datetime
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from vgbench import parallel
from vgbench.errors import UserError
from vgbench.files import write_text
from vgbench.randomness import seed_everything
from vgbench.runs.settings import RunOptions

LOG = logging.getLogger("vgbench")

# What says where this one run is; a configuration that is used again must not write over it.
THIS_RUN = ("run_dir", "resume")


def run_door(main: Callable[[], None]) -> None:
    """Run a door's main; what a person can mend ends as one line on stderr and exit status 2."""
    try:
        main()
    except UserError as error:
        LOG.debug("stopped", exc_info=True)
        print(f"error: {parallel.who()}{error}", file=sys.stderr, flush=True)
        parallel.leave(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    parallel.stop()


class _AboveProgressBars(logging.Handler):
    """Prints records through tqdm, so that they do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)


def log_to_console() -> None:
    """Send INFO and above to the console, without breaking progress bars."""
    console = _AboveProgressBars()
    console.setFormatter(logging.Formatter("%(message)s"))
    console.setLevel(logging.INFO if parallel.is_main() else logging.ERROR)  # ranks would all say the same
    LOG.handlers = [console]
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False


def open_run_folder(options: RunOptions, default: Path | None = None) -> Path:
    """Make the run's folder and log into it (info.log, debug.log).

    Args:
        default: the folder where --run_dir names none; a new one below logs/ if not given.

    Raises:
        UserError: the folder cannot be made.
    """
    folder = options.run_dir or default
    if folder is None:
        folder = parallel.broadcast(_fresh_folder(Path("logs") / options.save_dir))
    if not parallel.is_main():
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if parallel.launched():
            _restart_file().parent.mkdir(exist_ok=True)
            write_text(_restart_file(), str(folder.resolve()))
        for name, level in (("info.log", logging.INFO), ("debug.log", logging.DEBUG)):
            handler = logging.FileHandler(folder / name)
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
            handler.setLevel(level)
            LOG.addHandler(handler)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another with --run_dir") from error
    return folder


def folder_to_continue(resume: Path | None) -> Path | None:
    """A run's own last_model.pth goes on in the run's folder; any other checkpoint starts a new run."""
    if resume is not None and resume.name == "last_model.pth" and (resume.parent / "config.yaml").is_file():
        return resume.parent
    return None


def after_restart(given: dict[str, Any]) -> dict[str, Any]:
    """Where torchrun started this program again, go on from the checkpoint that it had written, whatever was given."""
    file = _restart_file()
    if not (parallel.launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and file.is_file()):
        return given
    checkpoint = Path(file.read_text()) / "last_model.pth"
    if not checkpoint.is_file():
        return given
    return {name: value for name, value in given.items() if name != "start_from"} | {"resume": checkpoint}


def _restart_file() -> Path:
    """Remembers the run folder from one start by torchrun to the next: its job's id, or else its process's."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return Path("logs") / f".torchrun-{job if job != 'none' else os.getppid()}"


def _fresh_folder(parent: Path) -> Path:
    """Name a folder by the second; two runs started in the same second get different names."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder, count = parent / stamp, 1
    while folder.exists():
        folder, count = parent / f"{stamp}-{count}", count + 1
    return folder


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write every resolved option to config.yaml, which `--config` reads back; not those that name this very run."""
    kept = {name: value for name, value in values.items() if name not in THIS_RUN}
    if parallel.is_main():
        write_text(folder / "config.yaml", yaml.safe_dump(kept, sort_keys=False))


def seed(value: int) -> None:
    """Seed every global generator for the set-up; each round of training seeds again by its place in the run."""
    seed_everything(value, "set-up")
