"""local: geometric verification of the candidates with local features (`reranker.LocalReranker`)."""

from __future__ import annotations

from vgbench.registry import Registry

EXTRACTORS = Registry(
    "local feature",
    {
        "xfeat": "vgbench.retrieval.rerank.local.xfeat:XFeatExtractor",
        "sift": "vgbench.retrieval.rerank.local.opencv:SiftExtractor",
        "orb": "vgbench.retrieval.rerank.local.opencv:OrbExtractor",
        "aliked": "vgbench.retrieval.rerank.local.lightglue:AlikedExtractor",
        "disk": "vgbench.retrieval.rerank.local.lightglue:DiskExtractor",
        "superpoint": "vgbench.retrieval.rerank.local.lightglue:SuperPointExtractor",
    },
    positional=2,
)

# A function of (features, ratio, runtime, its own keywords) that returns a Matcher.
MATCHERS = Registry(
    "matcher",
    {
        "mutual": "vgbench.retrieval.rerank.local.matchers:mutual",
        "ratio": "vgbench.retrieval.rerank.local.matchers:with_ratio",
        "lightglue": "vgbench.retrieval.rerank.local.matchers:lightglue",
        "lighterglue": "vgbench.retrieval.rerank.local.matchers:lighterglue",
    },
    positional=3,
)
