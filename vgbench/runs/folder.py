"""A run's folder: where it is, its logs, its configuration."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from vgbench import parallel
from vgbench.errors import UserError, reason_of
from vgbench.files import alone_or_refused, write_text
from vgbench.invocation import command
from vgbench.models import hub
from vgbench.models.pretrained_folder import CONFIG, MODEL
from vgbench.options import Mark, marked
from vgbench.runs import restart
from vgbench.runs.settings import RunOptions
from vgbench.training.checkpoint import BEST, LAST

LOG = logging.getLogger("vgbench")

_INFO = "%(asctime)s %(message)s"
# debug.log is for whoever has to find out why: where each line comes from, and tracebacks.
_DEBUG = "%(asctime)s %(levelname)s %(name)s:%(lineno)d %(message)s"
_PACKAGES = ("vgbench", "torch", "torchvision", "timm", "faiss-gpu", "faiss-cpu", "numpy", "pillow", "h5py")
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "DATASETS_FOLDER", "TORCH_HOME", "WORLD_SIZE")


@contextlib.contextmanager
def open_run_folder(options: RunOptions, default: Path | None = None, unless: Sequence[str] = ()) -> Iterator[Path]:
    """Make the run's folder, hold it and log into it (info.log, debug.log) until the body ends.

    Args:
        default: the folder where --run_dir names none; a new one below logs/ if not given.
        unless: files of an earlier run over which this one must not write; those of `default` it goes on from.

    Raises:
        UserError: the folder cannot be made, another run works in it, or it holds an earlier run.
    """
    folder = options.run_dir or default
    if folder is None:
        folder = parallel.on_main(lambda: _fresh_folder(Path("logs") / options.save_dir))
    if not parallel.is_main():
        yield folder
        return
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            busy = f"{folder}: another run works in this folder. Expected a folder of its own; wait, or give --run_dir"
            stack.enter_context(alone_or_refused(folder / ".lock", busy))
            if default is None or folder.resolve() != default.resolve():
                _check_unused(folder, unless)
            if restart.is_watched():
                restart.remember(folder)
            handlers = [_log_file(folder / "info.log", logging.INFO, _INFO)]
            handlers.append(_log_file(folder / "debug.log", logging.DEBUG, _DEBUG))
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another with --run_dir") from error
        stack.enter_context(_logging_to(handlers))
        _describe_start()
        try:
            yield folder
        except BaseException:
            LOG.debug("stopped", exc_info=True)
            raise
        restart.forget()


def _check_unused(folder: Path, files: Sequence[str]) -> None:
    found = [name for name in files if (folder / name).is_file()]
    if found:
        raise UserError(
            f"{folder}: holds {found[0]} of an earlier run, which would be lost. Expected an empty folder; give "
            f"another --run_dir, or go on with that run: {command('train')} --resume={shlex.quote(str(folder))}"
        )


def checkpoint_of(resume: Path, *names: str) -> Path:
    """Return the checkpoint that `--resume` means: the file itself, or the first of these names in a run's folder.

    Raises:
        UserError: it is a folder that holds none of them.
    """
    if not resume.is_dir():
        return resume
    found = [resume / name for name in names if (resume / name).is_file()]
    if not found:
        raise UserError(
            f"--resume {resume}: no {' and no '.join(names)} in this folder. Expected a run's folder, or a checkpoint"
        )
    return found[0]


def folder_to_continue(resume: Path | None) -> Path | None:
    """A run's own last_model.pth goes on in the run's folder; any other checkpoint starts a new run."""
    if resume is not None and resume.name == LAST and (resume.parent / "config.yaml").is_file():
        return resume.parent
    return None


def descriptors_folder(resume: Path | None, folder: Path) -> Path:
    """A checkpoint's descriptors are kept beside it, where one can write, so that its next evaluation finds them."""
    beside = resume is not None and os.access(resume.parent, os.W_OK)
    return (resume.parent if resume is not None and beside else folder) / "descriptors"


def after_restart(given: dict[str, Any]) -> dict[str, Any]:
    """Where torchrun started this program again, go on from the checkpoint that it had written, whatever was given."""
    folder = restart.remembered()
    if folder is None or not (folder / LAST).is_file():
        return given
    return {name: value for name, value in given.items() if name != "start_from"} | {"resume": folder / LAST}


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write every resolved option to config.yaml, which `--config` reads back; not those that name this very run."""
    # Where this one run is: a configuration that is used again must not write over it.
    unwritten = marked(Mark.NOT_WRITTEN, RunOptions)
    kept = {name: value for name, value in values.items() if name not in unwritten}
    if parallel.is_main():
        write_text(folder / "config.yaml", yaml.safe_dump(kept, sort_keys=False))


def to_train_on(resume: Path) -> Path:
    """Return the checkpoint that a training goes on from."""
    return checkpoint_of(resume, LAST)


def to_test(resume: Path) -> Path:
    """Return the checkpoint that is tested, of a run's folder or of one that `save_pretrained` wrote.

    `hf://owner/name[@revision]` is fetched from the Hugging Face hub; raises UserError as `hub.fetch` does.
    """
    name = hub.name_of(resume)
    if name is not None:
        return hub.fetch(name)
    if (resume / CONFIG).is_file() and (resume / MODEL).is_file():
        return resume / MODEL
    return checkpoint_of(resume, BEST, LAST)


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short, which ends no run: it says so once, on the console."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            with contextlib.suppress(OSError):
                print(
                    f"{self.baseFilename}: cannot be written ({reason_of(error)}); the run goes on without these lines",
                    file=sys.stderr,
                )

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is still to be written has been tried before
            super().close()


def _log_file(path: Path, level: int, layout: str) -> logging.Handler:
    handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")  # names of files need not be text
    handler.setFormatter(logging.Formatter(layout, "%Y-%m-%d %H:%M:%S"))
    handler.setLevel(level)
    return handler


@contextlib.contextmanager
def _logging_to(handlers: list[logging.Handler]) -> Iterator[None]:
    """Write what this package says to some files as well."""
    level = LOG.level
    LOG.setLevel(logging.DEBUG)
    for handler in handlers:
        LOG.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOG.removeHandler(handler)
            handler.close()
        LOG.setLevel(level)


def _describe_start() -> None:
    """Say in debug.log what one asks first when a run cannot be repeated: the call, the machine, the versions."""
    LOG.debug("called as: %s", shlex.join(sys.argv))
    LOG.debug("in %s, by Python %s on %s", Path.cwd(), platform.python_version(), platform.platform())
    LOG.debug("packages: %s", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES if _version(name)))
    LOG.debug("environment: %s", ", ".join(f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _fresh_folder(parent: Path) -> Path:
    """Make a folder named by the second; runs started in the same second get different ones.

    Raises:
        UserError: it cannot be made.
    """
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for count in range(10_000):
            folder = parent / (f"{stamp}-{count}" if count else stamp)
            with contextlib.suppress(FileExistsError):
                folder.mkdir()  # asking first and making then, two runs would share it
                return folder
    except OSError as error:
        raise UserError(f"{parent}: cannot be written ({error.strerror}); choose another with --run_dir") from error
    raise UserError(f"{parent}: has 10000 runs of this second. Expected a free name; give --run_dir")
