"""What a run writes while it trains: metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vgbench import parallel
from vgbench.errors import UserError, reason_of
from vgbench.files import written_whole
from vgbench.training.checkpoint import METRICS, Progress
from vgbench.training.tracker import Nowhere, Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = logging.getLogger(__name__)


class MetricsLogger:
    """One writer of a run's numbers, which a resumed run goes on with as if there had been no interruption.

    metrics.jsonl has a line per round (`{"epoch", "round", "steps", "loss", "seconds_...": }`) and a line per epoch
    (`{"epoch", "steps", "loss", "recalls": {"1": .., "5": ..}, "best_r5", "not_improved_num"}`), losses per step,
    recalls in percent. TensorBoard has the losses, learning rates and pictures over optimiser steps
    (tensorboard/train) and the recalls over epochs (tensorboard/val).

    A disk that is full, or gone, does not end a training that others wait for: what cannot be written is warned about
    once and left out.

    Args:
        folder: the run folder.
        tensorboard: whether to write TensorBoard events.
        tracker: where the same numbers go besides.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = True, tracker: Tracker | None = None) -> None:
        self.path = folder / METRICS
        self._tracker = tracker or Nowhere()
        self._writers: dict[str, SummaryWriter] = {}
        self._tensorboard = folder / "tensorboard" if tensorboard else None
        self._start = Progress()
        self._lost = False

    def start(self, progress: Progress) -> None:
        """Say where the run (re)starts; what an interrupted run wrote beyond that is removed."""
        self._start = dataclasses.replace(progress)
        if parallel.is_main():
            try:
                rewind(self.path, progress)
            except UserError as error:
                LOG.warning("%s", error)

    def round(self, progress: Progress, index: int, values: Mapping[str, float]) -> None:
        """Write the numbers of round `index` of `progress.epoch`."""
        self._append({"epoch": progress.epoch, "round": index, "steps": progress.steps, **values})
        self._scalars("train", values, progress.steps, purge=self._start.steps + 1)
        self._tracker.log({"steps": progress.steps, **{f"train/{name}": value for name, value in values.items()}})

    @property
    def shows_pictures(self) -> bool:
        """Whether pictures go anywhere; if not, nobody needs to draw them."""
        return self._tensorboard is not None

    def pictures(self, progress: Progress, pictures: Mapping[str, Tensor]) -> None:
        """Write pictures uint8 [3,H,W] of the round that ended, by title."""
        for title, picture in pictures.items():
            self._draw("train", self._start.steps + 1, functools.partial(_add_picture, title, picture, progress.steps))

    def epoch(self, progress: Progress, loss: float, recalls: Mapping[int, float]) -> None:
        """Write the numbers of the epoch that `progress` stands at, after its validation."""
        row: dict[str, Any] = {"epoch": progress.epoch, "steps": progress.steps, "loss": _finite(loss)}
        row["recalls"] = {str(value): float(recall) for value, recall in recalls.items()}
        row |= {"best_r5": progress.best_r5, "not_improved_num": progress.not_improved_num}
        self._append(row)
        scalars = {"loss": loss, **{f"R@{value}": recall for value, recall in recalls.items()}}
        self._scalars("val", scalars, progress.epoch, purge=self._start.epoch)
        self._tracker.log({"epoch": progress.epoch, **{f"val/{name}": value for name, value in scalars.items()}})

    def outcome(self, options: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """Write what a run with these options has come to, for TensorBoard's table of hyperparameters."""
        known = {name: _plain(value) for name, value in options.items() if value is not None}
        self._draw("val", self._start.epoch, functools.partial(_add_hyperparameters, known, dict(values)))
        self._tracker.summary(values)

    def close(self) -> None:
        """Finish the TensorBoard files."""
        for name in list(self._writers):
            self._draw(name, 0, lambda writer: writer.close())
        self._writers.clear()

    def __enter__(self) -> MetricsLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, row: Mapping[str, Any]) -> None:
        if not parallel.is_main():
            return
        try:
            _append_line(self.path, json.dumps(row))
        except OSError as error:
            self._lost_lines(error)

    def _lost_lines(self, error: OSError) -> None:
        if not self._lost:
            self._lost = True
            LOG.warning("%s: cannot be written (%s); the training goes on without lines", self.path, reason_of(error))

    def _scalars(self, name: str, values: Mapping[str, float], step: int, purge: int) -> None:
        def add(writer: SummaryWriter) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)
            writer.flush()

        self._draw(name, purge, add)

    def _draw(self, name: str, purge: int, add: Callable[[SummaryWriter], object]) -> None:
        """Do something with a TensorBoard file; after the first that cannot be written there are no more."""
        try:
            writer = self._writer(name, purge)
            if writer is not None:
                add(writer)
        except OSError as error:
            LOG.warning("%s: cannot be written (%s); the training goes on without", self._tensorboard, reason_of(error))
            self._tensorboard = None
            for writer in self._writers.values():
                with contextlib.suppress(Exception):  # it raises the same again
                    writer.close()
            self._writers.clear()

    def _writer(self, name: str, purge: int) -> SummaryWriter | None:
        if self._tensorboard is None or not parallel.is_main():
            return None
        if name not in self._writers:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

            # Readers drop what an interrupted run wrote at `purge` and beyond.
            threading.excepthook = _said_once
            self._writers[name] = SummaryWriter(str(self._tensorboard / name), purge_step=purge)
        return self._writers[name]


def _said_once(failure: threading.ExceptHookArgs) -> None:
    """Leave what TensorBoard's thread could not write to the training, which hears of it at its next number."""
    if not (isinstance(failure.exc_value, OSError) and type(failure.thread).__name__ == "_AsyncWriterThread"):
        threading.__excepthook__(failure)


def _add_picture(title: str, picture: Tensor, steps: int, writer: SummaryWriter) -> None:
    writer.add_image(title, picture, steps)


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _add_hyperparameters(options: dict[str, Any], values: dict[str, float], writer: SummaryWriter) -> None:
    """As `add_hparams`, but into this writer's own folder, not one beside it."""
    from torch.utils.tensorboard.summary import hparams

    for summary in hparams(options, values):  # type: ignore[no-untyped-call]
        writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        writer.add_scalar(name, value)
    writer.flush()


def _append_line(path: Path, line: str) -> None:
    """Append a whole line or nothing; raises OSError."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        content = (line + "\n").encode()
        try:
            # A disk with room for half the line takes the half, and says so only when asked for the rest.
            while content:
                content = content[file.write(content) :]
        except OSError:
            file.truncate(before)
            raise


def rewind(path: Path, start: Progress) -> None:
    """Remove from a metrics file the rows of rounds and epochs that a run starting at `start` will write again."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _is_before(line, start)]
    if kept != lines:
        content = b"".join(kept)
        if path.read_bytes().startswith(content):
            os.truncate(path, len(content))  # as whole as a new file, and a full disk has room for it
            return
        with written_whole(path) as partial:
            partial.write_bytes(content)


def _is_before(line: bytes, start: Progress) -> bool:
    try:
        row = json.loads(line)
        if not line.endswith(b"\n"):
            return False  # cut short by an interruption
        return (row["epoch"], row.get("round", math.inf)) < (start.epoch, start.round)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
