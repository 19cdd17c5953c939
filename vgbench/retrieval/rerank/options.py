"""What a user can set about re-ranking."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import Options, Rule, above, arguments, at_least, between, option
from vgbench.retrieval.adaptive import LEARNED
from vgbench.retrieval.adaptive.options import AdaptiveOptions
from vgbench.retrieval.rerank.local import is_bridge
from vgbench.retrieval.sequence.options import SequenceOptions

SPATIAL_CLUSTERS = ("radius", "dbscan", "agglomerative")
SPATIAL_ORDERS = ("size", "distance", "representative", "representative_distance")
LOCAL_MODELS = ("homography", "fundamental")
DENSE_SCORES = ("rapid", "ransac")

# What else verifies by local features.
_INLIERS = "uncertainty=inliers"
_COUNT, _FROM_0, _PART = at_least(1), at_least(0), between(0, 1)


@dataclass(frozen=True)
class ChainOptions(Options, topic="rerank"):
    """Which re-rankers, and how deep they look."""

    rerank: tuple[str, ...] | None = option(
        None,
        "re-rankers, in this order",
        registry="vgbench.retrieval.rerank:RERANKERS",
        metavar="NAME",
        unset="none",
        common=True,
    )
    rerank_args: tuple[str, ...] | None = arguments(
        "rerank", "keywords of your own re-rankers; with several, <name>.<keyword>=<value> says whose"
    )
    rerank_topk: int = option(
        20,
        "predictions of a query that are re-ranked; the others stay",
        range=_COUNT,
        needs="rerank=spatial|kreciprocal|local|dense|selavpr|fol|r2former|pairvpr|descriptors|geowarp",
        common="eval",
    )


@dataclass(frozen=True)
class SpatialOptions(Options, needs="rerank=spatial", topic="rerank"):
    """Clusters of the candidates' coordinates."""

    spatial_cluster: str = option("radius", "how the candidates' coordinates are clustered", choices=SPATIAL_CLUSTERS)
    spatial_radius: float = option(25.0, "metres within which two candidates belong together", range=above(0))
    spatial_order: str = option(
        "size",
        "by cluster size, keeping the order within a size (size); by cluster size, then by descriptor "
        "distance within each cluster (distance); one representative of each cluster first, clusters by size "
        "(representative) or by descriptor distance (representative_distance)",
        choices=SPATIAL_ORDERS,
    )


@dataclass(frozen=True)
class KReciprocalOptions(Options, needs="rerank=kreciprocal", topic="rerank"):
    """k-reciprocal encoding."""

    kreciprocal_k1: int = option(20, "neighbours that are compared", range=_COUNT)
    kreciprocal_k2: int = option(6, "neighbours that are averaged over", range=_COUNT)
    kreciprocal_lambda: float = option(0.3, "share of the descriptor distance in the result, 0 to 1", range=_PART)
    kreciprocal_joint: bool = option(False, "let the queries of the run be each other's neighbours too, as published")


@dataclass(frozen=True)
class AqeOptions(Options, needs="rerank=aqe", topic="rerank"):
    """Query expansion."""

    aqe_k: int = option(5, "predictions, from the first, that a query is averaged with", range=_COUNT)
    aqe_alpha: float = option(
        3.0, "power of the similarity in the weights of that average; 0: all the same", range=_FROM_0
    )


@dataclass(frozen=True)
class DbaOptions(Options, needs="rerank=dba", topic="rerank"):
    """Database augmentation."""

    dba_k: int = option(5, "neighbours that each database descriptor is averaged with", range=_COUNT)
    dba_alpha: float = option(
        3.0, "power of the similarity in the weights of that average; 0: all the same", range=_FROM_0
    )


@dataclass(frozen=True)
class DiffusionOptions(Options, needs="rerank=diffusion", topic="rerank"):
    """Diffusion on the graph of the database."""

    diffusion_k: int = option(10, "neighbours of a database image in the graph", range=_COUNT)
    diffusion_query_k: int = option(5, "database images that a query starts from", range=_COUNT)
    diffusion_alpha: float = option(0.9, "share that flows on at each step, 0 to 0.999", range=between(0, 0.999))
    diffusion_gamma: float = option(3.0, "power of the similarity in the graph's weights", range=_FROM_0)
    diffusion_size: int = option(500, "nearest database images that a query's graph is cut down to", range=_COUNT)


@dataclass(frozen=True)
class LocalOptions(Options, needs=f"rerank=local or {_INLIERS}", topic="rerank"):
    """Verification by local features."""

    local_features: tuple[str, ...] = option(
        ("xfeat",),
        "features; several: candidates are verified by each, and the logarithms of their inliers added",
        registry="vgbench.retrieval.rerank.local:EXTRACTORS",
    )
    local_features_args: tuple[str, ...] | None = arguments("local_features")
    local_matcher: tuple[str, ...] = option(
        ("mutual",),
        "mutual nearest neighbours, also with Lowe's ratio test, or a network (lighterglue for xfeat, "
        "lightglue for aliked, disk and superpoint); one for all --local_features, or one for each; or a matcher of "
        "images, without --local_features: vismatch:<name>, transformers:<model> (LightGlue and its like)",
        registry="vgbench.retrieval.rerank.local:MATCHERS",
    )
    local_matcher_args: tuple[str, ...] | None = arguments("local_matcher")
    local_ratio: float = option(
        0.9, "largest ratio of the nearest to the second nearest distance", range=_PART,
        needs="local_matcher=ratio",
    )  # fmt: skip
    local_threshold: float = option(1.0, "pixels at --local_size within which a match is an inlier", range=above(0))
    local_size: int = option(
        0, "long side of the images in pixels, their ratio kept; 0: their own size",
        range=Rule(lambda side: side == 0 or side >= 64, "0 or at least 64 pixels"),
    )  # fmt: skip
    local_keypoints: int = option(1024, "keypoints of an image at most, strongest first", range=_COUNT)
    local_weight: float = option(
        0.5,
        "weight of the descriptor distance, scaled to 0..1 over a query's candidates, beside the logarithm of "
        "the inliers; 0: by inliers alone, ties in the order of the descriptors",
        range=_FROM_0,
    )
    local_refine: int = option(
        0,
        "match this many candidates, from the first, a second time, by lighterglue for xfeat and lightglue for "
        "others, and add the inliers; slow without a GPU",
        range=_FROM_0,
    )
    local_budget: float = option(
        0.0, "milliseconds for each query, after which the other candidates are not verified; 0: no limit",
        range=_FROM_0,
    )  # fmt: skip


@dataclass(frozen=True)
class VerifiedOptions(Options, needs=f"rerank=local|dense or {_INLIERS}", topic="rerank"):
    """What local and dense fit to matches."""

    local_model: str = option("fundamental", "what MAGSAC++ fits to a pair of images", choices=LOCAL_MODELS)
    local_iterations: int = option(200, "hypotheses that MAGSAC++ draws at most", range=_COUNT)


@dataclass(frozen=True)
class DenseOptions(Options, needs="rerank=dense", topic="rerank"):
    """Verification by the network's own features."""

    dense_score: str = option(
        "ransac", "inliers of --local_model (ransac) or agreement of the shifts (rapid)", choices=DENSE_SCORES
    )
    dense_patch: int = option(
        1, "side of the square of cells that are averaged into one feature, an odd number",
        range=Rule(lambda side: side >= 1 and side % 2 == 1, "an odd number, 1 or more"),
    )  # fmt: skip
    dense_weight: float = option(0.5, "as --local_weight", range=_FROM_0)


@dataclass(frozen=True)
class FolOptions(Options, needs="rerank=fol", topic="rerank"):
    """FoL's local features."""

    fol_similarity: float = option(
        0.7, "cosine that two local features must exceed to be counted as a match", range=between(-1, 1)
    )


@dataclass(frozen=True)
class DescriptorOptions(Options, needs="rerank=descriptors", topic="rerank"):
    """A second network, whose descriptors order what the first found."""

    rerank_network: str | None = option(
        None, "the second network: a name that --method knows, or a checkpoint", metavar="NAME", unset="none"
    )
    rerank_weights: str | None = option(
        None, "a file that has its weights, where it is a name; nothing is fetched", metavar="FILE", unset="fetched",
        needs="rerank_network",
    )  # fmt: skip


@dataclass(frozen=True)
class RerankOptions(
    DescriptorOptions,
    FolOptions,
    DenseOptions,
    VerifiedOptions,
    LocalOptions,
    DiffusionOptions,
    DbaOptions,
    AqeOptions,
    KReciprocalOptions,
    SpatialOptions,
    SequenceOptions,
    AdaptiveOptions,
    ChainOptions,
):
    """Options of re-ranking, which each method reads its own of.

    Raises:
        UserError: a value is out of its range, or a name is not known.
    """

    def check_together(self) -> None:
        """Raise UserError for features without a matcher, and for a model that nothing fits."""
        if len(self.local_matcher) not in (1, len(self.local_features)):
            raise UserError(
                f"--local_matcher {' '.join(self.local_matcher)}: {len(self.local_matcher)} for "
                f"{len(self.local_features)} --local_features. Expected one for all, or one for each in their order"
            )
        self._check_bridges()
        if self.dense_score == "rapid" and "dense" in self.names and "local" not in self.names:
            for name in ("local_model", "local_iterations"):
                if getattr(self, name) != getattr(RerankOptions, name):
                    raise UserError(
                        f"--{name}: --dense_score rapid fits no model. Expected --dense_score ransac; leave it out"
                    )

    def _check_bridges(self) -> None:
        """Refuse what matchers of images, which find their features themselves, do not look at."""
        bridges = [name for name in self.local_matcher if is_bridge(name)]
        if not bridges:
            return
        if len(self.local_matcher) > 1:
            raise UserError(
                f"--local_matcher {' '.join(self.local_matcher)}: {bridges[0]} finds its own features. Expected it "
                "alone"
            )
        for name in ("local_features", "local_keypoints", "local_ratio", "local_refine"):
            if getattr(self, name) != getattr(RerankOptions, name):
                raise UserError(
                    f"--{name}: does nothing with --local_matcher {bridges[0]}, which finds its own features. Expected "
                    "--local_matcher_args, where it takes some; leave this out"
                )

    @property
    def verifications(self) -> tuple[tuple[str, str], ...]:
        """`--local_features`, each with its matcher."""
        one_for_all = len(self.local_matcher) == 1
        matchers = self.local_matcher * len(self.local_features) if one_for_all else self.local_matcher
        return tuple(zip(self.local_features, matchers, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """The re-rankers in order; empty where none was asked for."""
        return self.rerank or ()

    @property
    def is_used(self) -> bool:
        """Whether predictions are not what the search found."""
        return bool(self.names or self.sequence)

    @property
    def estimators(self) -> tuple[str, ...]:
        """Those of `--uncertainty`, and that of `--rerank_when`, each once."""
        gate = () if self.rerank_when in (None, LEARNED) else (self.rerank_when,)
        return tuple(dict.fromkeys((*self.uncertainty, *filter(None, gate))))
