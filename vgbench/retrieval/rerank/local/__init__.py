"""local: geometric verification of the candidates with local features (`reranker.LocalReranker`)."""

from __future__ import annotations

from functools import partial
from typing import Any

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

BRIDGES = {
    "vismatch": "vgbench.retrieval.rerank.local.image_pairs:vismatch",
    "transformers": "vgbench.retrieval.rerank.local.image_pairs:transformers",
}


class Matchers(Registry):
    """The table, and beside it the matchers of other packages, which take images: `vismatch:<name>` and the like."""

    def families(self) -> list[str]:
        """Return the names, and how other packages' matchers are named."""
        return [*super().families(), *(f"{package}:<name>" for package in BRIDGES)]

    def unknown(self, name: str) -> str:
        return "" if is_bridge(name) else super().unknown(name)

    def is_own(self, name: str) -> bool:
        return super().is_own(name) and not is_bridge(name)

    def resolve(self, name: str) -> Any:
        if not is_bridge(name):
            return super().resolve(name)
        package, _, model = name.partition(":")
        return partial(super().resolve(BRIDGES[package]), model)


def is_bridge(name: str) -> bool:
    """Whether a matcher is another package's, which takes images and finds its features itself."""
    package, _, model = name.partition(":")
    return package in BRIDGES and bool(model)


# A function of (features, ratio, runtime, its own keywords) that returns a Matcher, or of images a PairMatcher.
MATCHERS = Matchers(
    "matcher",
    {
        "mutual": "vgbench.retrieval.rerank.local.matchers:mutual",
        "ratio": "vgbench.retrieval.rerank.local.matchers:with_ratio",
        "lightglue": "vgbench.retrieval.rerank.local.matchers:lightglue",
        "lighterglue": "vgbench.retrieval.rerank.local.matchers:lighterglue",
    },
    positional=3,
)
