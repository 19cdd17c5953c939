"""Adaptive re-ranking: how sure the search is of each query, and which queries are re-ranked for it.

An estimator is a function of (predictions, context, its keywords) that returns its certainty of each query's best
match, float64 [Q], the larger the surer.
"""

from __future__ import annotations

from vgbench.registry import Registry

# What `--rerank_when` names beside an estimator: the regression on those of `--uncertainty`.
LEARNED = "learned"

ESTIMATORS = Registry(
    "estimator",
    {
        "distance": "vgbench.retrieval.adaptive.estimators:distance",
        "pa": "vgbench.retrieval.adaptive.estimators:pa",
        "sue": "vgbench.retrieval.adaptive.estimators:sue",
        "inliers": "vgbench.retrieval.adaptive.estimators:inliers",
        "random": "vgbench.retrieval.adaptive.estimators:random",
    },
    positional=2,
)
