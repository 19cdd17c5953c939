"""What every miner does: sample queries, choose candidates, keep the nearest positive and the hardest negatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgbench.data import ImageTable, Neighbours
from vgbench.data.triplets import Triplets
from vgbench.errors import UserError
from vgbench.randomness import numpy_stream
from vgbench.training.mining.hardest import Rows, rank
from vgbench.training.mining.sampling import drop_neighbours, pairs_of, repeat_to_fill

# (table, rows int64 [R]) -> batches of (rows int64 [b], descriptors float32 [b,D] on the device), in order.
Describe = Callable[[ImageTable, Rows], Iterator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Task:
    """What there is to mine.

    Attributes:
        database, queries: the training images.
        positives: database images near enough to be a query's positive (train_positives_dist_threshold).
        not_negatives: database images too near to be a query's negative (val_positive_dist_threshold).
        eligible: int64, the queries that have a positive; the others are never sampled.
    """

    database: ImageTable
    queries: ImageTable
    positives: Neighbours
    not_negatives: Neighbours
    eligible: Rows = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "eligible", np.flatnonzero(np.diff(self.positives.indptr)).astype(np.int64))
        if not self.eligible.size:
            raise UserError(
                f"{self.queries.root}: none of the {len(self.queries)} queries has a database image within "
                "--train_positives_dist_threshold. Expected at least one; raise that threshold"
            )

    @property
    def set_aside(self) -> int:
        """How many queries have no positive."""
        return len(self.queries) - int(self.eligible.size)


@dataclass(frozen=True)
class Mined:
    """One round's triplets.

    Attributes:
        triplets: rows of the two tables, in the order in which the queries were drawn.
        repeated: how many of the queries have fewer than negs_num_per_query valid negatives, and so repeat them.
        left_out: how many sampled queries have no valid negative at all, and so are not among the triplets.
    """

    triplets: Triplets
    repeated: int
    left_out: int


class Miner(ABC):
    """A way to choose triplets with the network as it is now.

    A round depends on the network, `seed`, `epoch`, `index` and `state_dict`, and on nothing else.

    Args:
        task: the images and who is near whom.
        negs_num_per_query: negatives of a triplet.
        neg_samples_num: candidates among which a query's hardest negatives are looked for.
        seed: the run's seed.
    """

    def __init__(self, task: Task, negs_num_per_query: int, neg_samples_num: int, seed: int) -> None:
        self.task = task
        self.count = negs_num_per_query
        self.samples = neg_samples_num
        self.seed = seed

    def round(self, describe: Describe, epoch: int, index: int, queries_num: int) -> Mined:
        """Mine a round of `queries_num` queries (fewer where fewer have a positive).

        A query with fewer valid negatives than wanted repeats them, hardest first; a query with none is left out.

        Raises:
            UserError: no sampled query has a valid negative.
        """
        rng = numpy_stream(self.seed, "mining", epoch, index)
        queries = self.sample_queries(rng, min(queries_num, int(self.task.eligible.size)))
        candidates = self.candidates(rng, queries)
        candidates = drop_neighbours(candidates, self.task.not_negatives, queries, len(self.task.database))
        positive, negatives = self.choose(describe, queries, candidates)
        self.remember(queries, negatives)
        found = (negatives >= 0).sum(axis=1)
        kept = found > 0
        if not kept.any():
            raise UserError(self.no_negatives)
        triplets = Triplets(queries[kept], positive[kept], repeat_to_fill(negatives[kept]))
        return Mined(triplets, int(((found < self.count) & kept).sum()), int((~kept).sum()))

    @property
    def no_negatives(self) -> str:
        """What to say where no sampled query has a negative."""
        if self.samples >= len(self.task.database):  # all of them were drawn
            return self.all_too_near
        return (
            f"--neg_samples_num {self.samples}: no sampled query has a negative, every database image drawn is "
            "within --val_positive_dist_threshold of it. Expected images farther away; raise --neg_samples_num"
        )

    @property
    def all_too_near(self) -> str:
        """What to say where no database image is a negative of any sampled query."""
        return (
            f"{self.task.database.root}: no sampled query has a negative, every database image is within "
            "--val_positive_dist_threshold of it. Expected images farther away; lower --val_positive_dist_threshold"
        )

    def sample_queries(self, rng: np.random.Generator, count: int) -> Rows:
        """Draw `count` distinct queries among those that have a positive: int64 [count]."""
        return rng.choice(self.task.eligible, size=count, replace=False)

    @abstractmethod
    def candidates(self, rng: np.random.Generator, queries: Rows) -> Rows:
        """Return candidate negatives int64 [T,C] (-1 = none); images too near a query are removed afterwards."""

    def choose(self, describe: Describe, queries: Rows, candidates: Rows) -> tuple[Rows, Rows]:
        """Return each query's positive [T] and negatives [T,N] (-1 = none): the nearest ones in descriptor space."""
        positives = pairs_of(self.task.positives, queries)
        rows = np.unique(np.concatenate([positives[1], candidates[candidates >= 0]]))
        # Both are asked for first: what describes may begin to decode the database beside the queries.
        asked, database = describe(self.task.queries, queries), describe(self.task.database, rows)
        described = torch.cat([batch for _, batch in asked]).float()
        ranked = rank(described, database, rows, positives, candidates, self.count)
        return ranked.positive, ranked.negatives

    def remember(self, queries: Rows, negatives: Rows) -> None:  # noqa: B027  (most miners have no memory)
        """Note a round's choice for later rounds."""

    def state_dict(self) -> dict[str, Any]:
        """Return what later rounds depend on, besides the seed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; raises UserError where it is of other data."""
        if state:
            raise UserError(f"checkpoint: state of another miner ({', '.join(state)}). Expected the same --mining")
