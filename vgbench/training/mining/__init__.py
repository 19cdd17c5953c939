"""Miners: one line a miner."""

from __future__ import annotations

from typing import cast

from vgbench.registry import Registry
from vgbench.training.construct import construct
from vgbench.training.mining.base import Describe, Mined, Miner, Task
from vgbench.training.options import TrainOptions

__all__ = ["MINERS", "Describe", "Mined", "Miner", "Task", "build_miner"]

MINERS = Registry(
    "miner",
    {
        "partial": "vgbench.training.mining.partial:PartialMiner",
        "full": "vgbench.training.mining.full:FullMiner",
        "random": "vgbench.training.mining.random:RandomMiner",
        "msls_weighted": "vgbench.training.mining.msls_weighted:MslsWeightedMiner",
    },
)


def build_miner(options: TrainOptions, task: Task, seed: int) -> Miner:
    """Return the miner that `options.mining` names; raises UserError if there is none."""
    return cast(Miner, construct(MINERS, options.mining, options, task=task, seed=seed))
