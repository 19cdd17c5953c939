from .checkpoint import Checkpoints, Progress, is_resumable, save_checkpoint
from .loop import train
from .metrics_logger import MetricsLogger
from .modes.base import TrainingMode
from .optimisation.optim import build_optimizer, build_own_optimizer, load_optimizer
from .options import TrainOptions
from .run import EpochRecalls, LoopResult, Run

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
