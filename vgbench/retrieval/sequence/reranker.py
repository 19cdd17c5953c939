"""The search of a sequence: streams over the queries, with a window of their distances in memory."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from vgbench.data.walk import Walk, walk_of
from vgbench.errors import UserError, in_short
from vgbench.models.network import Network
from vgbench.retrieval.extraction.store import BLOCK_BYTES, Descriptors
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.described import require_a_descriptor_a_query
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.sequence import SEQUENCES
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)

_ROWS_BYTES = 4 * BLOCK_BYTES  # distances of the queries of one pass over the database


class SequenceReranker(Reranker):
    """Finds each query anew with the frames around it, among all of the database, as `--sequence` says.

    The frames are those of the query's own sequence; at its ends there are fewer. With a window of one frame the
    predictions stay what they are. In memory are one block of queries' distances to all database images, and those of
    one window: 4 (256 MiB / 4 N + L) N bytes or so, however many queries there are.
    """

    @staticmethod
    def check(network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
        """Raise UserError for a method that is not known, or has no such keywords."""
        SEQUENCES.keywords("sequence", str(options.sequence), options.sequence_args)
        SEQUENCES.resolve(str(options.sequence))

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        options = context.options
        require_a_descriptor_a_query("sequence", predictions, context)
        walk, route = (walk_of(table, options.seq_order) for table in (context.split.database, context.split.queries))
        LOG.info(
            "sequence: %d queries in %d sequences by %s, %d database images in %d by %s",
            len(route.rows), route.sequences, route.by, len(walk.rows), walk.sequences, walk.by,
        )  # fmt: skip
        if options.seq_length == 1:
            return Reranked(predictions)
        name = str(options.sequence)
        method = partial(SEQUENCES.resolve(name), **SEQUENCES.keywords("sequence", name, options.sequence_args))
        indices, distances = predictions.indices.copy(), predictions.distances.copy()
        for place, frames, at in windows(context, walk, route):
            try:
                costs = np.asarray(method(frames, at, walk, options), np.float64)
            except Exception as error:
                if ":" not in name:
                    raise
                raise UserError(
                    f"--sequence {name}: fails ({in_short(error)}). Expected a function of (distances, at, walk, "
                    "options)"
                ) from error
            if costs.shape != (len(walk.rows),) or not np.isfinite(costs).all():
                raise UserError(f"--sequence {name}: expected a finite cost for each database image")
            query = route.rows[place]
            indices[query], distances[query] = cheapest(costs, walk.rows, indices.shape[1])
        return Reranked(Predictions(indices, distances))


def cheapest(
    costs: NDArray[np.float64], rows: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the `count` rows that cost the least and what they cost, cheapest first, equal ones by row."""
    # All that cost as little as the last of them compete, or ties would be settled by chance.
    limit = np.partition(costs, count - 1)[count - 1]
    some = np.flatnonzero(costs <= limit)
    best = some[np.lexsort((rows[some], costs[some]))[:count]]
    return rows[best], costs[best].astype(np.float32)


def windows(context: RerankContext, walk: Walk, route: Walk) -> Iterator[tuple[int, NDArray[np.float32], int]]:
    """Yield (place in `route`, the distances of its window float32 [n,N] in the order of `walk`, its place in them)."""
    options = context.options
    ahead, behind = options.future, options.seq_length - 1 - options.future
    held: deque[tuple[int, NDArray[np.float32]]] = deque()
    coming = distance_rows(context.database, context.queries, walk.rows, route.rows, context.runtime)
    for place in range(len(route.rows)):
        first = max(place - behind, int(route.starts[place]))
        last = min(place + ahead, int(route.ends[place]) - 1)
        while not held or held[-1][0] < last:
            held.append(next(coming))
        while held[0][0] < first:
            held.popleft()
        frames = np.stack([row for number, row in held if number <= last])
        yield place, frames, place - first


def distance_rows(
    database: Descriptors,
    queries: Descriptors,
    columns: NDArray[np.int64],
    order: NDArray[np.int64],
    runtime: Runtime,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (number, distances float32 [N] to all database rows in the order `columns`) of queries in an order.

    Args:
        order: int64 [Q], rows of `queries`; the number yielded is the place in it.
    """
    size = max(1, _ROWS_BYTES // (4 * len(columns)))
    rows = max(1, BLOCK_BYTES // database.row_bytes)
    for start in range(0, len(order), size):
        some = queries.rows(order[start : start + size]).float().to(runtime.device)
        found = torch.empty(len(some), len(database))
        for first, block in database.blocks(rows):
            part = torch.cdist(some, block.to(runtime.device).float(), compute_mode="donot_use_mm_for_euclid_dist")
            found[:, first : first + len(block)] = part.cpu()
        for number, row in enumerate(found.numpy()):
            yield start + number, row[columns]
