"""Choosing positives and hard negatives of a round beside a loop over its queries, on the same descriptors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from perf.measure import Pair, in_turn, pair_of
from vgbench.training.mining.hardest import Rows, rank

NEGATIVES = 10
POSITIVES = 5


def measure(queries: int, database: int, candidates: int, dim: int, device: torch.device, rounds: int) -> Pair:
    """Compare `mining.rank` (masked matrix products) with one small search a query."""
    generator = torch.Generator().manual_seed(0)
    described = [
        torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1).to(device)
        for count in (queries, database)
    ]
    rng = np.random.default_rng(0)
    positives = rng.integers(0, database, (queries, POSITIVES))
    negatives = rng.integers(0, database, (queries, candidates))
    rows = np.arange(database, dtype=np.int64)

    def ours() -> object:
        pairs = (np.repeat(np.arange(queries), POSITIVES), positives.reshape(-1))
        return rank(described[0], [(torch.from_numpy(rows), described[1])], rows, pairs, negatives, NEGATIVES)

    times = in_turn(ours, lambda: loop(described[0], described[1], positives, negatives), rounds)
    what = f"mine, {queries} queries, {candidates} candidates each of {database} images, {dim} dimensions"
    return pair_of(what, "seconds", *times)


def loop(queries: Tensor, database: Tensor, positives: Rows, negatives: Rows) -> list[tuple[int, Tensor]]:
    """What the field's code does: for each query, distances to its positives and to its candidates."""
    chosen = []
    for number, query in enumerate(queries):
        near = torch.from_numpy(positives[number]).to(queries.device)
        far = torch.from_numpy(negatives[number]).to(queries.device)
        best = near[(database[near] - query).square().sum(1).argmin()]
        hardest = (database[far] - query).square().sum(1).topk(NEGATIVES, largest=False).indices
        chosen.append((int(best), far[hardest]))
    return chosen
