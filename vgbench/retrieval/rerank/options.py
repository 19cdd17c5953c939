"""What a user can set about re-ranking."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from vgbench.errors import UserError
from vgbench.options import check_above_zero, check_at_least, option
from vgbench.retrieval.rerank import RERANKERS

SPATIAL_CLUSTERS = ("radius", "dbscan", "agglomerative")
SPATIAL_ORDERS = ("size", "distance", "representative", "representative_distance")
LOCAL_MATCHERS = ("mutual", "ratio", "lightglue", "lighterglue")
LOCAL_MODELS = ("homography", "fundamental")
DENSE_SCORES = ("rapid", "ransac")

_spatial = partial(option, needs="rerank=spatial")
_kreciprocal = partial(option, needs="rerank=kreciprocal")
_aqe = partial(option, needs="rerank=aqe")
_dba = partial(option, needs="rerank=dba")
_diffusion = partial(option, needs="rerank=diffusion")
_local = partial(option, needs="rerank=local")
_ratio = partial(option, needs="rerank=local,local_matcher=ratio")
_dense = partial(option, needs="rerank=dense")
_verified = partial(option, needs="rerank=local|dense")


@dataclass(frozen=True)
class RerankOptions:
    """Options of re-ranking, which each method reads its own of.

    Raises:
        UserError: a value is out of its range, or a name is not known.
    """

    rerank: tuple[str, ...] | None = option(
        None,
        "re-rankers, applied in this order: spatial, kreciprocal, aqe, dba, diffusion, local, dense, geowarp, or your "
        "own as package.module:Class or package.module:function",
    )
    rerank_topk: int = option(
        20,
        "predictions of a query that are re-ranked; the rest keep their order",
        needs="rerank=spatial|kreciprocal|local|dense|geowarp",
    )
    spatial_cluster: str = _spatial(
        "radius", "spatial: what makes clusters of the candidates' coordinates", choices=SPATIAL_CLUSTERS
    )
    spatial_radius: float = _spatial(25.0, "spatial: metres within which two candidates belong together")
    spatial_order: str = _spatial(
        "size",
        "spatial: by cluster size, keeping the order within a size (size); by cluster size, then by descriptor "
        "distance within each cluster (distance); one representative of each cluster first, clusters by size "
        "(representative) or by descriptor distance (representative_distance)",
        choices=SPATIAL_ORDERS,
    )
    kreciprocal_k1: int = _kreciprocal(20, "kreciprocal: neighbours that are compared")
    kreciprocal_k2: int = _kreciprocal(6, "kreciprocal: neighbours that are averaged over")
    kreciprocal_lambda: float = _kreciprocal(0.3, "kreciprocal: share of the descriptor distance in the result, 0 to 1")
    kreciprocal_joint: bool = _kreciprocal(
        False, "kreciprocal: let the queries of the run be each other's neighbours too, as published"
    )
    aqe_k: int = _aqe(5, "aqe: first predictions that a query is averaged with")
    aqe_alpha: float = _aqe(3.0, "aqe: power of the similarity in the weights of that average; 0: all the same")
    dba_k: int = _dba(5, "dba: neighbours that each database descriptor is averaged with")
    dba_alpha: float = _dba(3.0, "dba: power of the similarity in the weights of that average; 0: all the same")
    diffusion_k: int = _diffusion(10, "diffusion: neighbours of a database image in the graph")
    diffusion_query_k: int = _diffusion(5, "diffusion: database images that a query starts from")
    diffusion_alpha: float = _diffusion(0.9, "diffusion: share that flows on at each step, 0 to below 1")
    diffusion_gamma: float = _diffusion(3.0, "diffusion: power of the similarity in the graph's weights")
    diffusion_size: int = _diffusion(500, "diffusion: nearest database images that a query's graph is cut down to")
    local_features: tuple[str, ...] = _local(
        ("xfeat",),
        "local: xfeat, sift, orb, aliked, disk, superpoint, or your own as package.module:Class; several: candidates "
        "are verified by each, and the logarithms of their inliers added",
    )
    local_matcher: tuple[str, ...] = _local(
        ("mutual",),
        "local: mutual nearest neighbours, also with Lowe's ratio test, or a network (lighterglue for xfeat, "
        "lightglue for aliked, disk and superpoint); one for all --local_features, or one for each",
        choices=LOCAL_MATCHERS,
    )
    local_ratio: float = _ratio(0.9, "local: the ratio test's bound on nearest to second nearest distance")
    local_model: str = _verified("fundamental", "local: what MAGSAC++ fits to a pair of images", choices=LOCAL_MODELS)
    local_threshold: float = _local(1.0, "local: pixels at --local_size within which a match is an inlier")
    local_iterations: int = _verified(200, "local: hypotheses that MAGSAC++ draws at most")
    local_size: int = _local(0, "local: long side of the images in pixels, their ratio kept; 0: their own size")
    local_keypoints: int = _local(1024, "local: keypoints of an image at most, strongest first")
    local_weight: float = _local(
        0.5,
        "local: weight of the descriptor distance, scaled to 0..1 over a query's candidates, beside the logarithm of "
        "the inliers; 0: by inliers alone, ties in the order of the descriptors",
    )
    local_refine: int = _local(
        0,
        "local: so many first candidates are matched a second time, by lighterglue for xfeat and lightglue for others, "
        "and the inliers added; slow without a GPU",
    )
    local_budget: float = _local(
        0.0, "local: milliseconds a query after which the candidates left are not verified; 0: no limit"
    )
    dense_score: str = _dense(
        "ransac", "dense: inliers of --local_model (ransac) or agreement of the shifts (rapid)", choices=DENSE_SCORES
    )
    dense_patch: int = _dense(1, "dense: cells of the feature map, a side, that are averaged into one feature; odd")
    dense_weight: float = _dense(0.5, "dense: as --local_weight")

    def __post_init__(self) -> None:
        check_at_least(self, 1, "rerank_topk", "kreciprocal_k1", "kreciprocal_k2", "aqe_k", "dba_k", "diffusion_k")
        check_at_least(self, 1, "diffusion_query_k", "diffusion_size", "local_iterations", "local_keypoints")
        for name in ("aqe_alpha", "dba_alpha", "diffusion_gamma", "local_weight", "local_budget", "dense_weight"):
            _between(self, name, 0, float("inf"))
        check_above_zero(self, "spatial_radius", "local_threshold")
        _between(self, "kreciprocal_lambda", 0, 1)
        _between(self, "local_ratio", 0, 1)
        _between(self, "diffusion_alpha", 0, 0.999)
        check_at_least(self, 0, "local_refine")
        if self.dense_patch < 1 or self.dense_patch % 2 == 0:
            raise UserError(f"--dense_patch {self.dense_patch}: has no middle. Expected an odd number, 1 or more")
        if self.local_size != 0 and self.local_size < 64:
            raise UserError(f"--local_size {self.local_size}: too small. Expected 0 or at least 64 pixels")
        for name, choices in (
            ("spatial_cluster", SPATIAL_CLUSTERS),
            ("spatial_order", SPATIAL_ORDERS),
            ("local_matcher", LOCAL_MATCHERS),
            ("local_model", LOCAL_MODELS),
            ("dense_score", DENSE_SCORES),
        ):
            given = getattr(self, name)
            for value in given if isinstance(given, tuple) else (given,):
                if value not in choices:
                    raise UserError(f"--{name} {value}: not known. Expected one of {', '.join(choices)}")
        if len(self.local_matcher) not in (1, len(self.local_features)):
            raise UserError(
                f"--local_matcher {' '.join(self.local_matcher)}: {len(self.local_matcher)} for "
                f"{len(self.local_features)} --local_features. Expected one for all, or one for each in their order"
            )
        if self.dense_score == "rapid" and "dense" in self.names and "local" not in self.names:
            for name in ("local_model", "local_iterations"):
                if getattr(self, name) != getattr(RerankOptions, name):
                    raise UserError(
                        f"--{name}: --dense_score rapid fits no model. Expected --dense_score ransac; leave it out"
                    )
        for name in self.names:
            RERANKERS.resolve(name)

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


def _between(options: RerankOptions, name: str, low: float, high: float) -> None:
    if not low <= getattr(options, name) <= high or getattr(options, name) == float("inf"):
        above = f" to {high:g}" if high < float("inf") else " up, finite"
        raise UserError(f"--{name} {getattr(options, name)}: out of range. Expected a number from {low:g}{above}")
