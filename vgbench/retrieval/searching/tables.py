"""The tables of what searches: one line a way. Nothing here loads torch or faiss."""

from __future__ import annotations

from vgbench.registry import Registry

_INDEX = "vgbench.retrieval.searching.index:IndexSearch"
# A class made as (database, options, compression options, runtime, its own keywords); see exact.Searcher.
INDICES = Registry(
    "index",
    {
        "exact": "vgbench.retrieval.searching.exact:ExactSearch",
        "ivf": _INDEX,
        "ivfpq": _INDEX,
        "hnsw": _INDEX,
    },
    positional=4,
)
# A class with `fit(database, compression options, its own keywords)`; see codes.Coder.
QUANTISERS = Registry(
    "quantiser",
    {
        "binary": "vgbench.retrieval.searching.codes:BinaryCodes",
        "hash": "vgbench.retrieval.searching.learned:LearnedCodes",
        "pq": "vgbench.retrieval.searching.product:ProductCodes",
    },
    positional=2,
    method="fit",
)
# A class made as (a block of queries, rows at most, dimensions, its own keywords); see exact.PairFinder.
SEARCH_BACKENDS = Registry(
    "search backend",
    {
        "torch": "vgbench.retrieval.searching.finder_torch:TorchFinder",
        "faiss": "vgbench.retrieval.searching.finder_faiss:FaissFinder",
    },
    positional=3,
)
