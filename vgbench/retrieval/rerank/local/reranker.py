"""local: candidates whose local features agree with the query's on one geometry come first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError
from vgbench.models.network import Network
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.local import EXTRACTORS, MATCHERS, is_bridge
from vgbench.retrieval.rerank.local.features import Extractor, make_extractor
from vgbench.retrieval.rerank.local.geometry import inliers
from vgbench.retrieval.rerank.local.image_pairs import ImagePlan
from vgbench.retrieval.rerank.local.matchers import Matcher, make_matcher
from vgbench.retrieval.rerank.local.verification import AnyPlan, Plan, verify
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Runtime


class LocalReranker(Reranker):
    """Matches local features of the query and each candidate, fits one geometry with MAGSAC++ and counts inliers.

    The cost of a candidate is minus log(1 + inliers), plus `--local_weight` times its distance scaled to 0..1 over the
    query's candidates. Equal costs keep their order, so where nothing can be verified, it stays. With several
    `--local_features`, each verifies all candidates and takes its own log(1 + inliers) off the cost: errors of features
    and matchers that were made differently seldom agree. With `--local_refine`, the first candidates of that order are
    matched again by a network, and the inliers added. With `--local_budget`, candidates are verified in their order
    until the query's time is spent; those left count as having no inliers.

    Of what it returns, `bytes_per_image` is of the features, for those database images that were needed, `preparing_s`
    the seconds that finding features took, and the file "local_matches" that of `LocalMatches`.
    """

    @staticmethod
    def check(network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
        """Raise UserError where features and matcher cannot be had or differ."""
        plans_of(options, runtime)

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        return verify(
            "local",
            plans_of(context.options, context.runtime),
            predictions,
            context,
            weight=context.options.local_weight,
            budget_ms=context.options.local_budget,
        )


def plans_of(options: RerankOptions, runtime: Runtime) -> tuple[AnyPlan, ...]:
    """Return how `--local_...` say to verify; raises UserError where features and matcher cannot be had or differ."""
    of_features = EXTRACTORS.keywords_of_each("local_features", options.local_features, options.local_features_args)
    of_matchers = MATCHERS.keywords_of_each("local_matcher", options.local_matcher, options.local_matcher_args)
    plans: list[AnyPlan] = []
    for features, matcher in options.verifications:
        if is_bridge(matcher):
            match = MATCHERS.resolve(matcher)("", options.local_ratio, runtime, **of_matchers[matcher])
            plans.append(ImagePlan(match, options.local_size, partial(counted, options=options)))
            continue
        extractor = make_extractor(features, options.local_keypoints, runtime, of_features[features])
        make = partial(make_matcher, matcher, features, options.local_ratio, runtime, of_matchers[matcher])
        plans.append(_plan_of(features, matcher, extractor, make, options, runtime))
    return tuple(plans)


def _plan_of(
    features: str,
    matcher: str,
    extractor: Extractor,
    make: Callable[[], Matcher],
    options: RerankOptions,
    runtime: Runtime,
) -> Plan:
    refined = "lighterglue" if features == "xfeat" else "lightglue"
    if options.local_refine and matcher == refined:
        raise UserError(
            f"--local_refine {options.local_refine}: --local_matcher {matcher} has matched all candidates already. "
            "Expected --local_matcher mutual or ratio beside it; leave one of them out"
        )
    return Plan(
        extractor=extractor,
        size=options.local_size,
        keypoints=options.local_keypoints,
        matcher=make(),
        judge=lambda query, candidate: counted(query, candidate, options),
        second=make_matcher(refined, features, options.local_ratio, runtime) if options.local_refine else None,
        refine=options.local_refine,
    )


def counted(
    query: NDArray[np.float32], candidate: NDArray[np.float32], options: RerankOptions
) -> tuple[float, NDArray[np.bool_]]:
    """Return how many matches [m,2] agree on `--local_model`, and which."""
    good = inliers(query, candidate, options.local_model, options.local_threshold, options.local_iterations)
    return float(good.sum()), good
