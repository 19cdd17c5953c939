"""How the nearest descriptors are found, as `--index` and `--quantise` say; one line a way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from vgbench import parallel
from vgbench.retrieval.extraction.store import BLOCK_BYTES, Descriptors
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.exact import finder_of, merge_predictions, search, search_rows
from vgbench.retrieval.searching.tables import INDICES, QUANTISERS
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
                self.database, queries, k, finder_of(self.options), self.runtime, block_bytes,
                (rows.start, rows.stop),
            )
        ] if rows.stop > rows.start else []  # fmt: skip
        return merge_predictions([part for found in parallel.all_gather_objects(parts) for part in found], k)


def block_bytes_of(options: EvalOptions) -> int:
    """Return how much of a file exact search reads at once."""
    return BLOCK_BYTES // 8 if options.efficient_ram_testing else BLOCK_BYTES


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


def make_searcher(database: Descriptors, options: EvalOptions, runtime: Runtime) -> Searcher:
    """Return the searcher of a database, built or found beside its descriptors."""
    return searcher_type(options)(database, options, options, runtime)
