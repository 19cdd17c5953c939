"""Queries as frames of a walk or a drive: each is found with the frames around it, without training.

A method is a function of (distances, at, walk, options) that returns what each database image costs as the place of
frame `at`, see `methods`.
"""

from __future__ import annotations

from vgbench.registry import Registry

SEQUENCES = Registry(
    "sequence method",
    {
        "window": "vgbench.retrieval.sequence.methods:window",
        "viterbi": "vgbench.retrieval.sequence.methods:viterbi",
        "filter": "vgbench.retrieval.sequence.methods:forward_filter",
    },
    positional=4,
)
