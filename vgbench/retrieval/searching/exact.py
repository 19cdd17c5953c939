"""Exact nearest-neighbour search that streams the database from its file.

Float32 products tell which rows may be among the nearest, within bounds on their rounding; at the end those few, read
once more, are told apart in float64. Memory is two blocks of the file, one float32 tile, its scores, one block of
queries and the values at the end, about 130 MB whatever the database's size: blocks are what is read at once, tiles
what is multiplied at once. What the stage before had freed is given back to the system first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench import parallel
from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.options import LEARNED, EvalOptions, IndexOptions
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.candidates import Candidates, fits, nearest_of_few
from vgbench.retrieval.searching.finder_torch import GROUP, QueryBlock, Tile, TorchFinder, norms
from vgbench.retrieval.searching.tables import INDICES, QUANTISERS
from vgbench.retrieval.searching.tables import SEARCH_BACKENDS as SEARCH_BACKENDS
from vgbench.runtime import Runtime, release_freed_memory


class PairFinder(Protocol):
    """What a backend is: see `finder_torch.TorchFinder`."""

    def error(self, tile: Tile) -> Tensor:
        """Return bounds float64 [Q] of the scores' rounding errors."""

    def pairs(self, tile: Tile, floor: Tensor, kth_squared: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (query rows, tile rows, scores), [M] each, that hold every pair that may enter the k best."""


BLOCK_BYTES = 8 * 2**20  # one read
# In sizes of one read: the queries of one pass over the file; the float64 values that are compared at the end; a
# database that is searched without streaming.
_QUERY_BLOCKS, _LAST_BLOCKS, _FEW_BLOCKS = 8, 4, 2
_SCORE_BLOCKS = 8  # and the scores of a tile with the maxima of its groups
_MOST_QUERIES = 8192

MakeFinder = Callable[[QueryBlock, int, int], PairFinder]


def search(
    database: Descriptors,
    queries: Descriptors,
    k: int,
    backend: str | MakeFinder = "torch",
    runtime: Runtime | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Predictions:
    """Find each query's min(k, N) nearest database descriptors by Euclidean distance, ties by lower index.

    Distances are those of the stored descriptors computed in float64, whatever the backend and the device.

    Args:
        database: [N,D], streamed from its file once a block of queries.
        queries: [Q,D].
        k: predictions per query.
        backend: a name in SEARCH_BACKENDS, or what makes a finder.
        runtime: whose device multiplies; the CPU if None.
        block_bytes: the size of one read; about sixteen times as much is held at a time.

    Raises:
        UserError: no queries, an empty database, different dimensions, values that are not finite, or a backend that
            cannot be imported.
    """
    return merge_predictions([search_rows(database, queries, k, backend, runtime, block_bytes)], k)


@dataclass(frozen=True)
class PartialPredictions:
    """What a search of some database rows found, exact enough to be merged with what others found.

    Attributes:
        indices: int64 [Q,k], rows of the whole database, best first, equal distances in order of row.
        squared: float64 [Q,k], squared Euclidean distances.
    """

    indices: NDArray[np.int64]
    squared: NDArray[np.float64]


def merge_predictions(parts: Sequence[PartialPredictions], k: int) -> Predictions:
    """Merge what searches of different database rows found: the same predictions as of one search of all of them.

    Args:
        parts: for the same queries; each holds its k best, or all of its rows where it has fewer.
        k: predictions per query.

    Raises:
        ValueError: there are no parts.
    """
    if len(parts) == 1:
        return Predictions(parts[0].indices[:, :k], np.sqrt(parts[0].squared[:, :k]).astype(np.float32))
    indices = np.concatenate([part.indices for part in parts], axis=1)
    squared = np.concatenate([part.squared for part in parts], axis=1)
    order = np.lexsort((indices, squared), axis=1)[:, :k]
    distances = np.sqrt(np.take_along_axis(squared, order, axis=1)).astype(np.float32)
    return Predictions(np.take_along_axis(indices, order, axis=1), distances)


def search_rows(
    database: Descriptors,
    queries: Descriptors,
    k: int,
    backend: str | MakeFinder = "torch",
    runtime: Runtime | None = None,
    block_bytes: int = BLOCK_BYTES,
    rows: tuple[int, int] | None = None,
) -> PartialPredictions:
    """Find each query's nearest descriptors among some database rows, for `merge_predictions`.

    Args:
        rows: first row and the row after the last one; None for all. Ranks that take a part each share the work.
        database, queries, k, backend, runtime, block_bytes: as for `search`.

    Raises:
        UserError: as `search`, or no such rows.
    """
    make_finder: MakeFinder = SEARCH_BACKENDS.resolve(backend) if isinstance(backend, str) else backend
    device = runtime.device if runtime else torch.device("cpu")
    check_searchable(database, queries, k)
    start, stop = rows or (0, len(database))
    if not 0 <= start < stop <= len(database):
        raise UserError(f"{database.path}: has no rows {start} to {stop}. Expected some of its {len(database)}")
    k = min(k, stop - start)
    indices = np.empty((len(queries), k), dtype=np.int64)
    squared = np.empty((len(queries), k), dtype=np.float64)
    # Each block of queries costs a pass over the file; many queries make tiles of few rows. A GPU has more memory.
    scale = 8 if device.type == "cuda" else 1
    query_rows = max(1, min(scale * _QUERY_BLOCKS * block_bytes // (4 * queries.shape[1]), scale * _MOST_QUERIES))
    query_rows = -(-len(queries) // -(-len(queries) // query_rows))  # blocks of one size
    with torch.inference_mode(), _full_float32():
        for first in range(0, len(queries), query_rows):
            block = QueryBlock.of(queries.read(first, first + query_rows).to(device))
            _require_finite(block.norms, queries, first)
            part = slice(first, first + len(block))
            near, which = _search_block(database, (start, stop), block, k, make_finder, block_bytes)
            squared[part], indices[part] = near.cpu().numpy(), which.cpu().numpy()
    return PartialPredictions(indices, squared)


def finder_of(options: IndexOptions) -> MakeFinder:
    """Return the backend that options ask for, with the keywords of `--search_backend_args`; raises UserError."""
    keywords = SEARCH_BACKENDS.keywords("search_backend", options.search_backend, options.search_backend_args)
    finder: MakeFinder = SEARCH_BACKENDS.resolve(options.search_backend)
    return partial(finder, **keywords) if keywords else finder


def _search_block(
    database: Descriptors,
    span: tuple[int, int],
    queries: QueryBlock,
    k: int,
    make_finder: MakeFinder,
    block_bytes: int,
) -> tuple[Tensor, Tensor]:
    """Stream the database's rows past one block of queries; return squared distances and rows, both [Q,k]."""
    if make_finder is TorchFinder and fits(span[1] - span[0], queries, _FEW_BLOCKS * block_bytes):
        stored = database.read(*span)
        tile = _tile(stored.float(), database, span[0])
        few = nearest_of_few(queries, InMemory(stored, database.path), tile, k, _LAST_BLOCKS * block_bytes)
        if few is not None:
            return few[0], few[1] + span[0]
    candidates = Candidates(queries, k, database, _LAST_BLOCKS * block_bytes)
    release_freed_memory()
    _stream(database, span, queries, candidates, make_finder, block_bytes)
    release_freed_memory()  # the reads', before the end takes its own
    return candidates.best()


def _stream(
    database: Descriptors,
    span: tuple[int, int],
    queries: QueryBlock,
    candidates: Candidates,
    make_finder: MakeFinder,
    block_bytes: int,
) -> None:
    """Read the database's rows once, and offer those that may be among the nearest."""
    device = queries.vectors.device
    block_rows = max(1, block_bytes // database.row_bytes)
    tile_rows = _tile_rows(len(queries), database.shape[1], block_bytes * (8 if device.type == "cuda" else 1))
    tile_rows = min(tile_rows, block_rows, span[1] - span[0])
    buffer = torch.empty((tile_rows, database.shape[1]), dtype=torch.float32, device=device)
    finder = make_finder(queries, candidates.k, tile_rows)
    for block_start, block in database.blocks(block_rows, *span, pin_memory=device.type == "cuda"):
        stored = block.to(device, non_blocking=True)
        for start in range(0, len(stored), tile_rows):
            first_row = block_start + start
            tile = _fill_tile(buffer, stored[start : start + tile_rows], database, first_row)
            error = finder.error(tile)
            for query, row, score in finder.pairs(tile, candidates.floor, candidates.kth_squared):
                candidates.offer(query, row + first_row, score, error)


def _tile_rows(queries: int, dim: int, work_bytes: int) -> int:
    """Return how many rows are multiplied at once: their vectors take `work_bytes` at most, their scores four times it.

    Scores take that much only where descriptors are short: tiles of few rows would cost time there.
    """
    rows = min(work_bytes // (4 * dim), _SCORE_BLOCKS * work_bytes // (8 * queries) - GROUP)
    return max(rows // GROUP, 1) * GROUP


def _fill_tile(buffer: Tensor, stored: Tensor, database: Descriptors, first_row: int) -> Tile:
    vectors = stored
    if stored.dtype != buffer.dtype:
        vectors = buffer[: len(stored)]
        vectors.copy_(stored)
    return _tile(vectors, database, first_row)


def _tile(vectors: Tensor, database: Descriptors, first_row: int) -> Tile:
    """Make a tile of database rows float32, of which the first is `first_row`; raises UserError as `search`."""
    lengths = norms(vectors)
    radius = _require_finite(lengths, database, first_row)
    return Tile(vectors, lengths.square_().div_(2), radius)


def _require_finite(norms: Tensor, descriptors: Descriptors, first_row: int) -> float:
    """Return the largest norm; NaN, infinity and squares beyond float32 are refused by the row."""
    radius = float(norms.max())
    if not radius < 1e18:
        row = first_row + int((~(norms < 1e18)).nonzero()[0, 0])
        raise UserError(
            f"{descriptors.path}: descriptor {row} is not finite or too large. Expected finite numbers; delete the "
            "file and run again, with --amp off or other weights if it comes back"
        )
    return radius


def check_searchable(database: Descriptors, queries: Descriptors, k: int) -> None:
    """Raise UserError where k is below 1, or two sets of descriptors are empty or of different dimensions."""
    if k < 1:
        raise UserError(f"--recall_values: {k} predictions were asked for. Expected at least 1")
    for descriptors, what in ((queries, "queries"), (database, "database images")):
        if len(descriptors) == 0:
            raise UserError(f"{descriptors.path}: no {what}. Expected at least one descriptor to search with")
    if database.shape[1] != queries.shape[1]:
        raise UserError(
            f"{queries.path}: descriptors have {queries.shape[1]} dimensions but those of {database.path} have "
            f"{database.shape[1]}. Expected both from one network; delete both files and run again"
        )


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Forbid TF32 and bf16 inside float32 products: the error bound is that of true float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Searcher(Protocol):
    """What a way to search is; it is made once a database, by (database, options, compression options, runtime).

    Attributes:
        bytes_per_image: what it holds or streams of a database image.
    """

    bytes_per_image: float

    def search(self, queries: Descriptors, k: int) -> Predictions:
        """Return the min(k, N) best rows of each query."""


class ExactSearch:
    """`search`, which streams the descriptors themselves, its rows shared by the ranks."""

    def __init__(self, database: Descriptors, options: EvalOptions, compression: EvalOptions, runtime: Runtime) -> None:
        self.database, self.options, self.runtime = database, options, runtime
        self.bytes_per_image = float(database.row_bytes)

    def search(self, queries: Descriptors, k: int) -> Predictions:
        block_bytes = block_bytes_of(self.options)
        # Ranks share the database; all of them get what all of them found.
        rows = parallel.share(len(self.database))
        parts = [
            search_rows(
                self.database, queries, k, finder_of(self.options), self.runtime, block_bytes,
                (rows.start, rows.stop),
            )
        ] if rows.stop > rows.start else []  # fmt: skip
        return merge_predictions([part for found in parallel.all_gather_objects(parts) for part in found], k)


def block_bytes_of(options: EvalOptions) -> int:
    """Return how much of a file exact search reads at once."""
    return BLOCK_BYTES // 4 if options.efficient_ram_testing else BLOCK_BYTES


def exact_search(options: EvalOptions, runtime: Runtime) -> Callable[[Descriptors, Descriptors, int], Predictions]:
    """Return (database, queries, k) -> predictions, exact as the options say, for what searches after the search."""
    return partial(search, backend=finder_of(options), runtime=runtime, block_bytes=block_bytes_of(options))


def searcher_type(options: EvalOptions) -> Callable[..., Searcher]:
    """Return the class of the way to search that the options ask for, with the keywords of `--index_args`.

    Raises:
        UserError: its library is absent, it is not known or has no such keywords.
    """
    if options.quantise != "none":
        QUANTISERS.resolve(options.quantise)
        from vgbench.retrieval.searching.codes import CodeSearch  # it needs faiss

        return CodeSearch
    make: Callable[..., Searcher] = INDICES.resolve(options.index)
    keywords = INDICES.keywords("index", options.index, options.index_args)
    return partial(make, **keywords) if keywords else make


def check_search(options: EvalOptions, shape: tuple[int, int]) -> None:
    """Refuse a search for which descriptors [N,D] are too few or of other dimensions, before they are made.

    A class of the tables says so in a static method `check_shape(shape, options)`, where it has one.

    Raises:
        UserError: as `searcher_type`, or as that method.
    """
    searcher_type(options)
    table, name = (INDICES, options.index) if options.quantise == "none" else (QUANTISERS, options.quantise)
    check = getattr(table.resolve(name), "check_shape", None)
    if check is not None:
        check(shape, options)


def make_searcher(
    database: Descriptors, options: EvalOptions, runtime: Runtime, learned: Mapping[str, Any] | None = None
) -> Searcher:
    """Return the searcher of a database, built or found beside its descriptors.

    Args:
        learned: what the network has learned for `--quantise hash` (`HashingBranch.thresholds`).
    """
    make = searcher_type(options)
    if options.quantise == LEARNED and learned is not None:
        return make(database, options, options, runtime, learned)
    return make(database, options, options, runtime)
