"""Re-ranking: what is done to the predictions after the search.

A method is one file here and one line in the table (`--rerank`); several chain in the order in which they are named.
"""

from __future__ import annotations

from vgbench.registry import Registry

RERANKERS = Registry(
    "re-ranker",
    {
        "spatial": "vgbench.retrieval.rerank.spatial:SpatialReranker",
        "kreciprocal": "vgbench.retrieval.rerank.kreciprocal:KReciprocalReranker",
        "aqe": "vgbench.retrieval.rerank.expansion:QueryExpansion",
        "dba": "vgbench.retrieval.rerank.augmentation:DatabaseAugmentation",
        "diffusion": "vgbench.retrieval.rerank.diffusion:DiffusionReranker",
        "dense": "vgbench.retrieval.rerank.dense:DenseReranker",
        "local": "vgbench.retrieval.rerank.local.reranker:LocalReranker",
        "geowarp": "vgbench.retrieval.rerank.geowarp:GeowarpReranker",
    },
)
