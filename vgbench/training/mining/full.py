"""Full database mining (NetVLAD: Arandjelovic et al., 2016)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vgbench.errors import UserError
from vgbench.training.mining.base import Miner, Task
from vgbench.training.mining.hardest import Rows
from vgbench.training.mining.sampling import sample_distinct


class FullMiner(Miner):
    """Every query has its own random sample of the whole database, and keeps its previous hard negatives in it.

    Only images that are some query's candidate or positive are described: the choice is the same as if all were.
    """

    def __init__(self, task: Task, negs_num_per_query: int, neg_samples_num: int, seed: int) -> None:
        super().__init__(task, negs_num_per_query, neg_samples_num, seed)
        self._previous = np.full((len(task.queries), negs_num_per_query), -1, dtype=np.int64)

    def candidates(self, rng: np.random.Generator, queries: Rows) -> Rows:
        """Return a sample for each query, and its previous negatives: int64 [T, neg_samples_num + N]."""
        drawn = sample_distinct(rng, queries.size, self.samples, len(self.task.database))
        return np.concatenate([drawn, self._previous[queries]], axis=1)

    def remember(self, queries: Rows, negatives: Rows) -> None:
        """Keep the negatives of these queries for the next time they are drawn."""
        self._previous[queries] = negatives

    def state_dict(self) -> dict[str, Any]:
        """Return {"previous_negatives": int64 [Q,N]}."""
        return {"previous_negatives": torch.from_numpy(self._previous.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the previous negatives; raises UserError if they are of other queries or another number."""
        previous = state.get("previous_negatives")
        if previous is None or tuple(previous.shape) != self._previous.shape:
            raise UserError(
                "checkpoint: its previous hard negatives are of another data set or --negs_num_per_query, or it was "
                "mined otherwise. Expected the options of the interrupted run"
            )
        self._previous = previous.numpy().copy()
