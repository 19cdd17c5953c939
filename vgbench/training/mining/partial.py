"""Partial mining (Warburg et al., MSLS, 2020; Berton et al., Deep VG benchmark, 2022)."""

from __future__ import annotations

import numpy as np

from vgbench.training.mining.base import Miner
from vgbench.training.mining.hardest import Rows


class PartialMiner(Miner):
    """One random sample of the database, shared by all queries of the round, holds the candidate negatives.

    Only the sample and the positives of the round's queries are described, so a round costs the same however large
    the database is.
    """

    def candidates(self, rng: np.random.Generator, queries: Rows) -> Rows:
        """Return the shared sample for every query: int64 [T, neg_samples_num]."""
        size = len(self.task.database)
        sample = rng.choice(size, size=min(self.samples, size), replace=False)
        return np.broadcast_to(sample, (queries.size, sample.size))
