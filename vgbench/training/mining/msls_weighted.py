"""Partial mining that draws rare conditions more often (Warburg et al., Mapillary SLS, 2020, supplementary)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError
from vgbench.training.mining.base import Task
from vgbench.training.mining.hardest import Rows
from vgbench.training.mining.partial import PartialMiner


class MslsWeightedMiner(PartialMiner):
    """Night and sideways queries weigh more: each group's total weight grows by the number of queries.

    Raises:
        UserError: the notes in the file names do not tell night from day and sideways from forward.
    """

    def __init__(self, task: Task, negs_num_per_query: int, neg_samples_num: int, seed: int) -> None:
        super().__init__(task, negs_num_per_query, neg_samples_num, seed)
        self.weights = query_weights(task)

    def sample_queries(self, rng: np.random.Generator, count: int) -> Rows:
        """Draw `count` distinct queries by weight: int64 [count]."""
        return rng.choice(self.task.eligible, size=count, replace=False, p=self.weights)


def query_weights(task: Task) -> NDArray[np.float64]:
    """Return the probability of each eligible query, float64 [E], from notes such as `night_sideways`.

    Raises:
        UserError: no note says day or night and a direction.
    """
    codes = task.queries.note_codes[task.eligible]
    notes = [note.lower().split("_") for note in task.queries.note_vocabulary]
    total = task.eligible.size
    weights = np.ones(total)
    for field, condition in enumerate(("night", "sideways")):
        member = np.array([len(note) > field and note[field] == condition for note in notes], dtype=bool)[codes]
        if not member.any():
            raise UserError(
                f"{task.queries.root}: no query's note says {condition}. Expected file names whose note is "
                "<day|night>_<direction>, as of MSLS; with other data sets use --mining partial"
            )
        weights[member] += total / member.sum()
    probability: NDArray[np.float64] = weights / weights.sum()
    return probability
