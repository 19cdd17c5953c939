"""What a user can set about search."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.options import Options, arguments, at_least, option

REFINE_IVFPQ = 16
_COUNT = at_least(1)


@dataclass(frozen=True)
class CellOptions(Options, needs="index=ivf|ivfpq", topic="index"):
    """Options of indices that divide the database into cells."""

    nlist: int | None = option(
        None, "cells of ivf and ivfpq", range=_COUNT, unset="4 times the square root of the number of database images"
    )
    nprobe: int = option(32, "cells that are searched for each query (ivf, ivfpq)", range=_COUNT)


@dataclass(frozen=True)
class GraphOptions(Options, needs="index=hnsw", topic="index"):
    """Options of indices that are graphs."""

    hnsw_m: int = option(32, "neighbours of a node of the graph (hnsw)", range=at_least(2))
    ef_construction: int = option(80, "candidates that are kept while the graph is built (hnsw)", range=_COUNT)
    ef_search: int = option(128, "candidates that are kept while the graph is searched (hnsw)", range=_COUNT)


@dataclass(frozen=True)
class IndexOptions(GraphOptions, CellOptions):
    """Options of how the nearest descriptors are found."""

    search_backend: str = option(
        "torch",
        "what finds the nearest descriptors; all are exact",
        registry="vgbench.retrieval.searching.tables:SEARCH_BACKENDS",
    )
    search_backend_args: tuple[str, ...] | None = arguments("search_backend")
    index: str = option(
        "exact",
        "exact: compare with all; ivf: with those of the nearest cells; ivfpq: with their codes; hnsw: along a graph "
        "(in memory); the last three need faiss and report what they lose",
        registry="vgbench.retrieval.searching.tables:INDICES",
    )
    index_args: tuple[str, ...] | None = arguments("index")
    refine: int | None = option(
        None,
        "of an approximate search, compute this many times the wanted predictions again, exactly, from the file; "
        "0: none",
        range=at_least(0),
        needs="index=ivf|ivfpq|hnsw or quantise=binary|pq",
        without="--refine {value}: the search is exact already",
        unset=f"{REFINE_IVFPQ} with ivfpq, else 0",
    )
    compare_queries: int = option(
        1000,
        "search exactly for up to this many queries as well, to report what approximation and compression lose",
        range=at_least(0),
    )
    efficient_ram_testing: bool = option(
        False, "search in blocks an eighth of the usual size: less memory, slower (memory is bounded either way)"
    )

    @property
    def refined(self) -> int:
        """How many times the wanted predictions are scored again."""
        return self.refine if self.refine is not None else (REFINE_IVFPQ if self.index == "ivfpq" else 0)
