"""The matcher that `--local_matcher` names: which keypoints of two images show the same point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from vgbench.retrieval.rerank.local import MATCHERS
from vgbench.retrieval.rerank.local.features import LocalFeatures, Matches
from vgbench.retrieval.rerank.local.nearest import NearestMatcher
from vgbench.runtime import Runtime

Matcher = Callable[[LocalFeatures, list[LocalFeatures], Executor], list[Matches]]


def make_matcher(
    name: str, features: str, ratio: float, runtime: Runtime, keywords: Mapping[str, Any] | None = None
) -> Matcher:
    """Return what `--local_matcher` names.

    Args:
        features: as `--local_features`.
        ratio: bound of the ratio test.
        keywords: of `--local_matcher_args`.

    Raises:
        UserError: it does not go with the features, or needs a package that is not installed.
    """
    matcher: Matcher = MATCHERS.resolve(name)(features, ratio, runtime, **(keywords or {}))
    return matcher


def mutual(features: str, ratio: float, runtime: Runtime) -> Matcher:
    """Mutual nearest neighbours."""
    return NearestMatcher(1.0, runtime)


def with_ratio(features: str, ratio: float, runtime: Runtime) -> Matcher:
    """Mutual nearest neighbours that pass Lowe's ratio test."""
    return NearestMatcher(ratio, runtime)


def lightglue(features: str, ratio: float, runtime: Runtime) -> Matcher:
    """LightGlue; raises UserError as `LearnedMatcher`."""
    return _learned("lightglue", features, runtime)


def lighterglue(features: str, ratio: float, runtime: Runtime) -> Matcher:
    """LighterGlue; raises UserError as `LearnedMatcher`."""
    return _learned("lighterglue", features, runtime)


def _learned(name: str, features: str, runtime: Runtime) -> Matcher:
    from vgbench.retrieval.rerank.local.learned_matchers import LearnedMatcher  # its package is optional

    return LearnedMatcher(name, features, runtime)
