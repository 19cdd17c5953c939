"""What a run writes while it trains: metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vgbench import parallel
from vgbench.files import written_whole
from vgbench.training.checkpoint import METRICS, Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsLogger:
    """One writer of a run's numbers, which a resumed run goes on with as if there had been no interruption.

    metrics.jsonl has a line per round (`{"epoch", "round", "steps", "loss", "seconds_...": }`) and a line per epoch
    (`{"epoch", "steps", "loss", "recalls": {"1": .., "5": ..}, "best_r5", "not_improved_num"}`), losses per step,
    recalls in percent. TensorBoard has the losses, learning rates and pictures over optimiser steps
    (tensorboard/train) and the recalls over epochs (tensorboard/val).

    Args:
        folder: the run folder.
        tensorboard: whether to write TensorBoard events.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = True) -> None:
        self.path = folder / METRICS
        self._writers: dict[str, SummaryWriter] = {}
        self._tensorboard = folder / "tensorboard" if tensorboard else None
        self._start = Progress()

    def start(self, progress: Progress) -> None:
        """Say where the run (re)starts; what an interrupted run wrote beyond that is removed."""
        self._start = dataclasses.replace(progress)
        if parallel.is_main():
            rewind(self.path, progress)

    def round(self, progress: Progress, index: int, values: Mapping[str, float]) -> None:
        """Write the numbers of round `index` of `progress.epoch`."""
        self._append({"epoch": progress.epoch, "round": index, "steps": progress.steps, **values})
        self._scalars("train", values, progress.steps, purge=self._start.steps + 1)

    @property
    def shows_pictures(self) -> bool:
        """Whether pictures go anywhere; if not, nobody needs to draw them."""
        return self._tensorboard is not None

    def pictures(self, progress: Progress, pictures: Mapping[str, Tensor]) -> None:
        """Write pictures uint8 [3,H,W] of the round that ended, by title."""
        for title, picture in pictures.items():
            writer = self._writer("train", purge=self._start.steps + 1)
            if writer is not None:
                writer.add_image(title, picture, progress.steps)

    def epoch(self, progress: Progress, loss: float, recalls: Mapping[int, float]) -> None:
        """Write the numbers of the epoch that `progress` stands at, after its validation."""
        row: dict[str, Any] = {"epoch": progress.epoch, "steps": progress.steps, "loss": _finite(loss)}
        row["recalls"] = {str(value): float(recall) for value, recall in recalls.items()}
        row |= {"best_r5": progress.best_r5, "not_improved_num": progress.not_improved_num}
        self._append(row)
        scalars = {"loss": loss, **{f"R@{value}": recall for value, recall in recalls.items()}}
        self._scalars("val", scalars, progress.epoch, purge=self._start.epoch)

    def close(self) -> None:
        """Finish the TensorBoard files."""
        for writer in self._writers.values():
            writer.close()
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
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _scalars(self, name: str, values: Mapping[str, float], step: int, purge: int) -> None:
        writer = self._writer(name, purge)
        if writer is None:
            return
        for key, value in values.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    def _writer(self, name: str, purge: int) -> SummaryWriter | None:
        if self._tensorboard is None or not parallel.is_main():
            return None
        if name not in self._writers:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

            # Readers drop what an interrupted run wrote at `purge` and beyond.
            self._writers[name] = SummaryWriter(str(self._tensorboard / name), purge_step=purge)
        return self._writers[name]


def rewind(path: Path, start: Progress) -> None:
    """Remove from a metrics file the rows of rounds and epochs that a run starting at `start` will write again."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _is_before(line, start)]
    if kept != lines:
        with written_whole(path) as partial:
            partial.write_bytes(b"".join(kept))


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
