"""What the doors share: the run folder, logging, seeding, and the end of every run (test, write, report)."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm.contrib.logging import _TqdmLoggingHandler

import vgbench
from vgbench.errors import UserError
from vgbench.options import option

LOG = logging.getLogger("vgbench")


@dataclass(frozen=True)
class RunOptions:
    """Where a run is written, what it starts from, and its randomness."""

    save_dir: str = option("default", "the run is written to logs/<save_dir>/<date and time>", metavar="NAME")
    run_dir: Path | None = option(None, "write the run to exactly this folder instead")
    resume: Path | None = option(
        None, "a checkpoint: train.py goes on from it, eval.py tests it; its own options become the defaults"
    )
    seed: int = option(0, "the seed of every random choice")


def run_door(main: Callable[[], None]) -> None:
    """Run a door's main; what a person can mend ends as one line on stderr and exit status 2."""
    try:
        main()
    except UserError as error:
        LOG.debug("stopped", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def log_to_console() -> None:
    """Send INFO and above to the console, without breaking progress bars."""
    console = _TqdmLoggingHandler()
    console.setFormatter(logging.Formatter("%(message)s"))
    console.setLevel(logging.INFO)
    LOG.handlers = [console]
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False


def open_run_folder(options: RunOptions) -> Path:
    """Make the run's folder and log into it (info.log, debug.log); a run that goes on keeps its folder.

    Raises:
        UserError: the folder cannot be made.
    """
    folder = options.run_dir or _folder_to_continue(options.resume)
    if folder is None:
        folder = _fresh_folder(Path("logs") / options.save_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, level in (("info.log", logging.INFO), ("debug.log", logging.DEBUG)):
            handler = logging.FileHandler(folder / name)
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
            handler.setLevel(level)
            LOG.addHandler(handler)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another with --run_dir") from error
    return folder


def _folder_to_continue(resume: Path | None) -> Path | None:
    """A run's own last_model.pth goes on in the run's folder; any other checkpoint starts a new run."""
    if resume is not None and resume.name == "last_model.pth" and (resume.parent / "config.yaml").is_file():
        return resume.parent
    return None


def _fresh_folder(parent: Path) -> Path:
    """Name a folder by the second; two runs started in the same second get different names."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder, count = parent / stamp, 1
    while folder.exists():
        folder, count = parent / f"{stamp}-{count}", count + 1
    return folder


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write every resolved option to config.yaml, which `--config` reads back."""
    write_whole(folder / "config.yaml", yaml.safe_dump(dict(values), sort_keys=False))


def write_whole(path: Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json."""
    write_whole(folder / "results.json", json.dumps(results, indent=2) + "\n")


def code_version() -> str:
    """The version, with the commit when the code runs from a git checkout."""
    here = Path(__file__).resolve().parent
    described = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    commit = described.stdout.strip()
    return f"{vgbench.__version__}+{commit}" if commit else vgbench.__version__


def describe_machine(runtime: Any) -> str:
    """One line on the hardware and software that produced the figures."""
    device = torch.cuda.get_device_name() if runtime.device.type == "cuda" else platform.processor() or "CPU"
    precision = str(runtime.amp_dtype).removeprefix("torch.") if runtime.amp_dtype else "float32"
    return (
        f"{device}, {torch.get_num_threads()} threads, {precision}, "
        f"{'channels_last' if runtime.channels_last else 'contiguous'}, torch {torch.__version__}"
    )


def replace(settings: Any, group: str, **changes: Any) -> Any:
    """Return settings with some options of one group changed."""
    return dataclasses.replace(settings, **{group: dataclasses.replace(getattr(settings, group), **changes)})
