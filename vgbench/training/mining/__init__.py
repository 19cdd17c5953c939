"""Miners: one line per miner."""

from __future__ import annotations

from typing import cast

from vgbench.training.construct import construct
from vgbench.training.mining.base import Describe, Mined, Miner, Task
from vgbench.training.options import TrainOptions
from vgbench.training.tables import MINERS

__all__ = ["MINERS", "Describe", "Mined", "Miner", "Task", "build_miner"]


def build_miner(options: TrainOptions, task: Task, seed: int) -> Miner:
    """Return the miner that `options.mining` names; raises UserError if there is none."""
    words = options.mining_args
    return cast(Miner, construct(MINERS, "mining", options.mining, options, words, task=task, seed=seed))
