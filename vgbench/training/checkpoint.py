"""Checkpoints: written whole or not at all, read without running code from the file."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vgbench import __version__, parallel
from vgbench.data.options import DataOptions
from vgbench.data.sequence_options import WindowOptions
from vgbench.files import written_whole
from vgbench.options import Mark, marked
from vgbench.retrieval.sequence.options import FrameOptions

LOG = logging.getLogger(__name__)

LAST = "last_model.pth"
BEST = "best_model.pth"
METRICS = "metrics.jsonl"
PART = "part_of_round"
# Of the options in a checkpoint, what those who test it take over, unless they are told otherwise.
TAKEN_OVER = marked(Mark.TAKEN_OVER, DataOptions, FrameOptions, WindowOptions)
_WEIGHTS = "model_state_dict"


@dataclass
class Progress:
    """How far a run has come; together with the weights and the optimiser, all that a resumed run needs.

    Attributes:
        epoch: the epoch that runs, from 0.
        round: its next round; equal to the rounds per epoch when only its validation is left.
        steps: optimiser steps since the start.
        epoch_loss, epoch_steps: sum of the losses of this epoch's batches, and their number.
        best_r5: best R@5 on val so far, percent; -1 before the first validation.
        best_r1: R@1 of that epoch, which decides between equal R@5.
        best_epoch: that epoch; -1 before the first validation.
        not_improved_num: epochs since then.
        seconds: time spent training, mining and validating.
        plateaus: how often the plateau schedule has lowered the learning rates, were it the schedule.
    """

    epoch: int = 0
    round: int = 0
    steps: int = 0
    epoch_loss: float = 0.0
    epoch_steps: int = 0
    best_r5: float = -1.0
    best_r1: float = -1.0
    best_epoch: int = -1
    not_improved_num: int = 0
    seconds: float = 0.0
    plateaus: int = 0


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint so that `path` holds, at any moment, either the old one or the new one.

    Raises:
        UserError: the file cannot be written (no space left, no permission); the old one stays.
    """
    with written_whole(path) as partial, partial.open("wb") as file:
        try:
            torch.save(_plain(content), file)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(str(error)) from error
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def is_resumable(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds a whole interrupted run, not only weights (as those of other projects do)."""
    return "progress" in content


@dataclass(frozen=True)
class States:
    """State dicts of what a training is made of.

    Attributes:
        network: what others load.
        optimizer, scaler, mode: what a resume needs beside it.
        ema: where weights are averaged, both the averaged and the trained ones.
        part: of a round that is not over, what `part_round.part_content` gives.
    """

    network: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    mode: Mapping[str, Any]
    ema: Mapping[str, Any] | None = None
    part: Mapping[str, Any] | None = None


class Checkpoints:
    """The two checkpoints of a run folder, and what every checkpoint of the run carries.

    Args:
        folder: the run folder.
        network_config: what rebuilds the network.
        options: every resolved option, plain values.
    """

    def __init__(self, folder: Path, network_config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self.folder = folder
        self.network_config = dict(network_config)
        self.options = dict(options)

    @property
    def last(self) -> Path:
        return self.folder / LAST

    @property
    def best(self) -> Path:
        return self.folder / BEST

    def save(
        self,
        path: Path,
        progress: Progress,
        recalls: Mapping[int, float],
        states: States,
    ) -> None:
        """Write a checkpoint: the keys of the Deep VG benchmark's, and what a bit-exact resume needs beside them."""
        content = {
            "epoch_num": progress.epoch,
            _WEIGHTS: states.network,
            "optimizer_state_dict": states.optimizer,
            "recalls": dict(recalls),
            "best_r5": progress.best_r5,
            "not_improved_num": progress.not_improved_num,
            "network_config": self.network_config,
            "options": self.options,
            "progress": asdict(progress),
            "mode_state": states.mode,
            "scaler": states.scaler,
            **({} if states.ema is None else {"ema": states.ema}),
            **({} if states.part is None else {PART: states.part}),
            "version": __version__,
        }
        parallel.on_main(lambda: save_checkpoint(path, content))

    def adopt(self, resumed: Path) -> None:
        """Where the resumed checkpoint lies in another folder, copy that run's best checkpoint and metrics here."""
        if resumed.parent.resolve() == self.folder.resolve():
            return
        parallel.on_main(lambda: self._copy(resumed.parent))

    def _copy(self, other: Path) -> None:
        for name in (BEST, METRICS):
            source, target = other / name, self.folder / name
            if source.is_file():
                with written_whole(target) as partial:
                    shutil.copyfile(source, partial)


def _plain(value: Any) -> Any:
    """Turn paths, NumPy scalars and mappings into what `weights_only` loading accepts."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
