"""The matcher that `--local_matcher` names: which keypoints of two images show the same point."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from vgbench.retrieval.rerank.local.features import LocalFeatures, Matches
from vgbench.retrieval.rerank.local.nearest import NearestMatcher
from vgbench.runtime import Runtime

Matcher = Callable[[LocalFeatures, list[LocalFeatures], Executor], list[Matches]]


def make_matcher(name: str, features: str, ratio: float, runtime: Runtime) -> Matcher:
    """Return what `--local_matcher` names.

    Raises:
        UserError: it does not go with the features, or needs a package that is not installed.
    """
    if name in ("mutual", "ratio"):
        return NearestMatcher(ratio if name == "ratio" else 1.0, runtime)
    from vgbench.retrieval.rerank.local.learned_matchers import LearnedMatcher

    return LearnedMatcher(name, features, runtime)
