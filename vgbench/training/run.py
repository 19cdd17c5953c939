"""What a training is given besides its network and its mode, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.training.checkpoint import Checkpoints
from vgbench.training.metrics_logger import MetricsLogger


@dataclass(frozen=True)
class EpochRecalls:
    """What a validation found: R@N in percent, N -> recall; R@5 must be among them."""

    recalls: dict[int, float]

    @property
    def r5(self) -> float:
        """R@5 in percent; raises UserError where it was not asked for."""
        if 5 not in self.recalls:
            raise UserError(f"--recall_values {' '.join(map(str, self.recalls))}: early stopping watches R@5. Add 5")
        return self.recalls[5]

    @property
    def r1(self) -> float:
        return self.recalls.get(1, 0.0)


Validate = Callable[[Network, int], EpochRecalls]


@dataclass(frozen=True)
class LoopResult:
    """How a run ended.

    Attributes:
        best: the best checkpoint's file.
        best_epoch: its epoch, from 0.
        best_r5: its R@5 on val, percent.
        epochs: epochs that were trained.
        steps: optimiser steps.
        stopped_early: whether R@5 stopped improving before `epochs_num`.
        seconds: time spent, over all the run's interruptions.
    """

    best: Path
    best_epoch: int
    best_r5: float
    epochs: int
    steps: int
    stopped_early: bool
    seconds: float


@dataclass(frozen=True)
class Run:
    """Where a training writes, what it starts from, and its randomness.

    Attributes:
        checkpoints: the run folder's checkpoints.
        watch: the run folder's metrics.
        seed: of every random choice.
        resume: last_model.pth of an interrupted run, or a checkpoint with weights only to start from.
    """

    checkpoints: Checkpoints
    watch: MetricsLogger
    seed: int
    resume: Path | None = None
