"""Candidate pairs by one float32 matrix product a tile, on any device.

Scores are only ever compared with a threshold that no k-th best can be below, lowered by a bound on their rounding
error; what passes is scored exactly by `topk`. The comparison runs on the maxima of small groups of rows, so a tile
costs its matrix product and one pass over the scores, with no sorting and no top-k of the whole tile.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vgbench.retrieval.topk import QueryBlock, Tile

GROUP = 64  # database rows that share one maximum
_PAIRS_AT_ONCE = 2**20


def find_pairs(queries: QueryBlock, tile: Tile, kth_squared: Tensor, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (query rows, tile rows), int64 [M] each, that hold every pair that may enter the k best.

    Args:
        kth_squared: float64 [Q], each query's k-th smallest squared distance so far, infinite before there are k.
        k: how many are wanted.
    """
    error = tile.score_error(queries.norms)
    scores = tile.vectors @ queries.vectors.T
    group = max(1, min(GROUP, tile.rows // (4 * k)))
    groups = -(-tile.rows // group)
    if len(scores) < groups * group:
        scores = torch.nn.functional.pad(scores, (0, 0, 0, groups * group - len(scores)), value=-torch.inf)
    scores = scores[: groups * group].view(groups, group, len(queries))
    maxima = scores.amax(1)
    # Scores are (|q|^2 - distance^2) / 2.
    threshold = (queries.norms.square() - kth_squared) / 2 - error
    if groups >= k and not _few(maxima, threshold, k):
        # k groups hold a row this good, so the k-th best row is no worse.
        threshold = torch.maximum(threshold, maxima.T.topk(k).values[:, -1] - 2 * error)
    passing = (maxima >= threshold).nonzero()
    for part in torch.split(passing, max(1, _PAIRS_AT_ONCE // group)):
        which_group, query = part[:, 0], part[:, 1]
        good = scores[which_group, :, query] >= threshold[query, None]
        pair, member = good.nonzero(as_tuple=True)
        row = which_group[pair] * group + member
        inside = row < tile.rows
        yield query[pair[inside]], row[inside]


def _few(maxima: Tensor, threshold: Tensor, k: int) -> bool:
    return int((maxima >= threshold).sum()) <= 2 * k * maxima.shape[1]
