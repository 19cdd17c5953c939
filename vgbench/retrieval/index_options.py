"""What a user can set about search."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import option

INDICES = ("exact", "ivf", "ivfpq", "hnsw")
REFINE_IVFPQ = 16


@dataclass(frozen=True)
class IndexOptions:
    """Options of how the nearest descriptors are found."""

    search_backend: str = option(
        "torch", "what finds the nearest descriptors; both are exact", choices=("torch", "faiss")
    )
    index: str = option(
        "exact",
        "exact: compare with all; ivf: with those of the nearest cells; ivfpq: with their codes; hnsw: along a graph "
        "(in memory); the last three need faiss and report what they lose",
        choices=INDICES,
    )
    nlist: int | None = option(
        None, "cells of ivf and ivfpq; unset: 4 times the root of the database's size", needs="index=ivf|ivfpq"
    )
    nprobe: int = option(32, "cells that a query looks into (ivf, ivfpq)", needs="index=ivf|ivfpq")
    hnsw_m: int = option(32, "neighbours of a node of the graph (hnsw)", needs="index=hnsw")
    ef_construction: int = option(80, "candidates that are kept while the graph is built (hnsw)", needs="index=hnsw")
    ef_search: int = option(128, "candidates that are kept while it is searched (hnsw)", needs="index=hnsw")
    refine: int | None = option(
        None,
        "of an approximate search, score so many times the wanted predictions again, exactly, from the file; "
        f"0: none; unset: {REFINE_IVFPQ} with ivfpq",
    )
    compare_queries: int = option(
        1000, "search exactly for up to so many queries as well, to report what approximation and compression lose"
    )
    efficient_ram_testing: bool = option(
        False, "search in blocks an eighth of the usual size: less memory, slower (memory is bounded either way)"
    )

    @property
    def refined(self) -> int:
        """How many times the wanted predictions are scored again."""
        return self.refine if self.refine is not None else (REFINE_IVFPQ if self.index == "ivfpq" else 0)

    def check_index(self) -> None:
        """Refuse values that no run could use."""
        if self.index not in INDICES:
            raise UserError(f"--index {self.index}: expected one of {', '.join(INDICES)}")
        for name, least in (("nlist", 1), ("nprobe", 1), ("hnsw_m", 2), ("ef_construction", 1), ("ef_search", 1),
                            ("refine", 0), ("compare_queries", 0)):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} {value}: expected at least {least}")
