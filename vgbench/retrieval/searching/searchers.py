"""How the nearest descriptors are found, as `--index` and `--quantise` say; one line a way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from vgbench import parallel
from vgbench.registry import Registry
from vgbench.retrieval.extraction.store import BLOCK_BYTES, Descriptors
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.exact import merge_predictions, search, search_rows
from vgbench.runtime import Runtime


class Searcher(Protocol):
    """What a way to search is; it is made once a database, by (database, options, compression options, runtime).

    Attributes:
        bytes_per_image: what it holds or streams of a database image.
    """

    bytes_per_image: float

    def search(self, queries: Descriptors, k: int) -> Predictions:
        """Return the min(k, N) best rows of each query."""


class ExactSearch:
    """`search.search`, which streams the descriptors themselves."""

    def __init__(self, database: Descriptors, options: EvalOptions, compression: EvalOptions, runtime: Runtime) -> None:
        self.database, self.options, self.runtime = database, options, runtime
        self.bytes_per_image = float(database.row_bytes)

    def search(self, queries: Descriptors, k: int) -> Predictions:
        block_bytes = block_bytes_of(self.options)
        # Ranks share the database; all of them get what all of them found.
        rows = parallel.share(len(self.database))
        parts = [
            search_rows(
                self.database, queries, k, self.options.search_backend, self.runtime, block_bytes,
                (rows.start, rows.stop),
            )
        ] if rows.stop > rows.start else []  # fmt: skip
        return merge_predictions([part for found in parallel.all_gather_objects(parts) for part in found], k)


def block_bytes_of(options: EvalOptions) -> int:
    """Return how much of a file exact search reads at once."""
    return BLOCK_BYTES // 8 if options.efficient_ram_testing else BLOCK_BYTES


def exact_search(options: EvalOptions, runtime: Runtime) -> Callable[[Descriptors, Descriptors, int], Predictions]:
    """Return (database, queries, k) -> predictions, exact as the options say, for what searches after the search."""
    return partial(search, backend=options.search_backend, runtime=runtime, block_bytes=block_bytes_of(options))


_INDEX, _CODES = "vgbench.retrieval.searching.index:IndexSearch", "vgbench.retrieval.searching.codes:CodeSearch"
SEARCHERS = Registry(
    "search",
    {
        "exact": "vgbench.retrieval.searching.searchers:ExactSearch",
        "ivf": _INDEX, "ivfpq": _INDEX, "hnsw": _INDEX,
        "binary": _CODES, "pq": _CODES,
    },
)  # fmt: skip


def searcher_type(options: EvalOptions) -> type[Searcher]:
    """Return the class of the way to search that the options ask for; raises UserError where its library is absent."""
    kind: type[Searcher] = SEARCHERS.resolve(options.index if options.quantise == "none" else options.quantise)
    return kind


def make_searcher(database: Descriptors, options: EvalOptions, runtime: Runtime) -> Searcher:
    """Return the searcher of a database, built or found beside its descriptors."""
    make = searcher_type(options)
    searcher: Searcher = make(database, options, options, runtime)  # type: ignore[call-arg]
    return searcher
