"""What a checkpoint gives back to a run that goes on from it."""

from __future__ import annotations

import logging
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vgbench.errors import UserError
from vgbench.models import load_state_dict
from vgbench.models.weights import read_checkpoint
from vgbench.stored import checked_value
from vgbench.training.checkpoint import Checkpoints, Progress, is_resumable
from vgbench.training.fitting import fitting
from vgbench.training.modes.base import TrainingMode
from vgbench.training.optimisation.ema import Ema
from vgbench.training.optimisation.optim import load_optimizer
from vgbench.training.optimisation.step import Stepper

LOG = logging.getLogger(__name__)

# Options that may change without a run ending otherwise than it would have.
_FREE = {"resume", "run_dir", "save_dir", "num_workers", "epochs_num", "patience", "datasets_folder"}
# Schedules that stretch over the whole run.
_WHOLE_RUN = ("cosine", "linear", "onecycle")


@dataclass(frozen=True)
class Resumed:
    """An interrupted run's checkpoint, whose weights are loaded already."""

    path: Path
    content: Mapping[str, Any]

    def restore(
        self,
        optimizer: torch.optim.Optimizer,
        stepper: Stepper,
        mode: TrainingMode[Any],
        checkpoints: Checkpoints,
        rounds_per_epoch: int,
    ) -> tuple[Progress, Mapping[int, float]]:
        """Put everything beside the weights back; returns the progress and the last recalls.

        Raises:
            UserError: it is of another run.
        """
        path, content = self.path, self.content
        with fitting(path, "its optimiser", "the interrupted run's --optim and network"):
            load_optimizer(optimizer, content["optimizer_state_dict"])
        with fitting(path, "its progress", "what train.py writes"):
            progress, recalls = _progress_of(content["progress"]), _recalls_of(content["recalls"])
        with fitting(path, "its scaler of gradients", "the interrupted run's --amp"):
            stepper.load_state_dict(content["scaler"])
        with fitting(path, "what its way to train remembers", "the interrupted run's --train_mode and images"):
            mode.load_state_dict(content["mode_state"])
        if progress.round > rounds_per_epoch:
            raise UserError(
                f"{path}: stands after round {progress.round} of an epoch. Expected at most "
                f"{rounds_per_epoch}; keep --queries_per_epoch and --cache_refresh_rate of that run"
            )
        _warn_of_changes(content.get("options", {}), checkpoints.options)
        checkpoints.adopt(path)
        if progress.best_epoch >= 0 and not checkpoints.best.is_file():
            LOG.warning("%s lies without its best_model.pth: the best epoch is looked for anew", path)
            progress.best_r5 = progress.best_r1 = -1.0
            progress.best_epoch, progress.not_improved_num = -1, 0
        LOG.info("resumed %s at epoch %d, round %d", path, progress.epoch, progress.round)
        return progress, recalls


def read_resumed(path: Path, network: nn.Module, ema: Ema | None) -> Resumed | None:
    """Load a checkpoint's weights, trained and averaged; returns what else it holds, None where it is weights only.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    content = read_checkpoint(path)
    stored = content.get("ema") if is_resumable(content) else None
    with fitting(path, "its weights", "those of this very network"):
        load_state_dict(network, stored["trained"] if stored else content)
        if ema and stored:
            ema.load_state_dict(stored)
    if ema and not stored:
        ema.restart()
    if is_resumable(content):
        return Resumed(path, content)
    LOG.info("%s holds weights only: a new run starts from them", path)
    return None


def _progress_of(stored: Mapping[str, Any]) -> Progress:
    """Return a checkpoint's progress; raises UserError where a number is of another type or range."""
    hints = typing.get_type_hints(Progress)
    progress = Progress(**{name: checked_value(name, value, hints[name]) for name, value in stored.items()})
    for name, value in vars(progress).items():
        least = -math.inf if name == "epoch_loss" else -1 if name.startswith("best_") else 0
        if not least <= value < math.inf:
            raise UserError(f"progress: {name} {value} is out of range. Expected a checkpoint of train.py")
    return progress


def _recalls_of(stored: Mapping[int, float]) -> dict[int, float]:
    return {checked_value("recalls", n, int): checked_value("recalls", r, float) for n, r in stored.items()}


def _warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say which options differ from the interrupted run's: it will then not end as that run would have."""
    lengths = now.get("schedule_epochs"), now.get("schedule_iterations")
    whole = now.get("schedule") in _WHOLE_RUN and lengths == (None, None)
    for name in sorted(before.keys() & now.keys() - (_FREE - {"epochs_num"} if whole else _FREE)):
        if before[name] != now[name]:
            LOG.warning("--%s is %s, the interrupted run had %s", name, now[name], before[name])
