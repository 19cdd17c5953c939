"""Re-ranking: what is done to the predictions after the search.

A method is one file here and one line in the table (`--rerank`); several chain in the order in which they are named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from vgbench.registry import Registry


class Rerankers(Registry):
    """The table; a user's own may be a class, or a function of a query and its candidates."""

    def filled_in(self, target: Callable[..., Any]) -> tuple[str, ...]:
        """Return the parameters that are no keywords of a user's: a function's first two."""
        return () if inspect.isclass(target) else tuple(inspect.signature(target).parameters)[:2]


RERANKERS = Rerankers(
    "re-ranker",
    {
        "spatial": "vgbench.retrieval.rerank.spatial:SpatialReranker",
        "kreciprocal": "vgbench.retrieval.rerank.kreciprocal:KReciprocalReranker",
        "aqe": "vgbench.retrieval.rerank.expansion:QueryExpansion",
        "dba": "vgbench.retrieval.rerank.augmentation:DatabaseAugmentation",
        "diffusion": "vgbench.retrieval.rerank.diffusion:DiffusionReranker",
        "dense": "vgbench.retrieval.rerank.dense:DenseReranker",
        "local": "vgbench.retrieval.rerank.local.reranker:LocalReranker",
        "selavpr": "vgbench.retrieval.rerank.counted:SelavprReranker",
        "fol": "vgbench.retrieval.rerank.counted:FolReranker",
        "descriptors": "vgbench.retrieval.rerank.descriptors:DescriptorReranker",
        "r2former": "vgbench.retrieval.rerank.token_pairs:R2formerReranker",
        "pairvpr": "vgbench.retrieval.rerank.token_pairs:PairvprReranker",
        "geowarp": "vgbench.retrieval.rerank.geowarp:GeowarpReranker",
    },
)
