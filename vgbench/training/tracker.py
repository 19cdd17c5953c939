"""A run's numbers at Weights & Biases (https://wandb.ai; extra `wandb`), beside metrics.jsonl and TensorBoard."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from vgbench import parallel
from vgbench.errors import UserError, in_short
from vgbench.files import write_text

LOG = logging.getLogger(__name__)

_ID = "wandb.id"


class Tracker(Protocol):
    """Where a run's numbers go besides."""

    def log(self, values: Mapping[str, float]) -> None:
        """Send numbers by name; `steps` or `epoch` among them say when."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Send what the run has come to."""


class Nowhere:
    """The tracker of a run that is not tracked."""

    def log(self, values: Mapping[str, float]) -> None: ...

    def summary(self, values: Mapping[str, Any]) -> None: ...


class WandbTracker:
    """A run of a project at Weights & Biases, or, with WANDB_MODE=offline, in the run's folder.

    Args:
        project: its name.
        folder: the run folder; a run that is resumed goes on with the same run there.
        options: all options by name.

    Raises:
        UserError: wandb is not installed, or nobody has logged in.
    """

    def __init__(self, project: str, folder: Path, options: Mapping[str, Any]) -> None:
        wandb = _library(project)
        known = folder / _ID
        try:
            self._run = wandb.init(
                project=project, name=folder.name, dir=str(folder), config=dict(options), resume="allow",
                id=known.read_text().strip() if known.is_file() else None,
            )  # fmt: skip
        except Exception as error:  # wandb has many of its own
            raise UserError(
                f"--wandb {project}: {in_short(error)}. Expected to be logged in (wandb login); WANDB_MODE=offline "
                "keeps everything in the run's folder"
            ) from error
        write_text(known, self._run.id + "\n")
        self._run.define_metric("train/*", step_metric="steps")
        self._run.define_metric("val/*", step_metric="epoch")

    def log(self, values: Mapping[str, float]) -> None:
        """Send numbers by name."""
        self._run.log(dict(values))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Send what the run has come to."""
        self._run.summary.update(dict(values))

    def close(self, failed: bool) -> None:
        """Send the rest."""
        self._run.finish(exit_code=int(failed))


@contextlib.contextmanager
def tracked(project: str | None, folder: Path, options: Mapping[str, Any]) -> Iterator[Tracker]:
    """Track a run on rank 0 while the body runs; raises UserError as `WandbTracker`."""
    if project is None or not parallel.is_main():
        yield Nowhere()
        return
    tracker, failed = WandbTracker(project, folder, options), True
    try:
        yield tracker
        failed = False
    finally:
        tracker.close(failed)


def check_tracker(project: str | None) -> None:
    """Raise UserError where a run could not be tracked for want of the library, before anything else is done."""
    if project is not None:
        _library(project)


def _library(project: str) -> Any:
    try:
        import wandb  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise UserError(
            f"--wandb {project}: wandb is not installed. Expected `pip install 'vgbench[wandb]'`"
        ) from error
    return wandb
