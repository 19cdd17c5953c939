"""Losses, miners, optimisers, the training loop and its checkpoints."""

from vgbench.training.checkpoint import Checkpoints, Progress, is_resumable, save_checkpoint
from vgbench.training.loop import EpochRecalls, LoopResult, Run, train
from vgbench.training.metrics_logger import MetricsLogger
from vgbench.training.modes.base import TrainingMode
from vgbench.training.optimisation.optim import build_optimizer, build_own_optimizer, load_optimizer
from vgbench.training.options import TrainOptions

__all__ = [
    "Checkpoints",
    "EpochRecalls",
    "LoopResult",
    "MetricsLogger",
    "Progress",
    "Run",
    "TrainOptions",
    "TrainingMode",
    "build_optimizer",
    "build_own_optimizer",
    "is_resumable",
    "load_optimizer",
    "save_checkpoint",
    "train",
]
