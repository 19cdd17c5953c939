"""Random negatives: the baseline without negative mining (Berton et al., Deep VG benchmark, 2022)."""

from __future__ import annotations

import numpy as np

from vgbench.training.mining.base import Describe, Miner
from vgbench.training.mining.hardest import Rows
from vgbench.training.mining.sampling import compact, sample_distinct


class RandomMiner(Miner):
    """Negatives are drawn uniformly among the valid ones; the positive is still the nearest in descriptor space."""

    @property
    def no_negatives(self) -> str:
        """A larger sample would not help, since as many are drawn as could be too near."""
        return self.all_too_near

    def candidates(self, rng: np.random.Generator, queries: Rows) -> Rows:
        """Return enough draws that negs_num_per_query remain when the too near ones are gone: int64 [T,C]."""
        near = np.diff(self.task.not_negatives.indptr)[queries]
        spare = int(near.max(initial=0))
        return sample_distinct(rng, queries.size, self.count + spare, len(self.task.database))

    def choose(self, describe: Describe, queries: Rows, candidates: Rows) -> tuple[Rows, Rows]:
        """Return the nearest positive and the first negatives drawn; describes no negative."""
        nothing = np.empty((queries.size, 0), dtype=np.int64)
        positive, _ = super().choose(describe, queries, nothing)
        return positive, compact(candidates, self.count)
