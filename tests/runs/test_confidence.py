"""What a kept confidence is taken to be of."""

from __future__ import annotations

from typing import Any

import pytest

from vgbench.data import DataOptions
from vgbench.models import build_network
from vgbench.retrieval import EvalOptions
from vgbench.retrieval.pipeline import Pipeline
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runs.confidence import facts_of
from vgbench.runtime import Runtime

NETWORK = build_network("efficientnet_lite0", "gem", "none")


def facts(**options: Any) -> dict[str, Any]:
    return facts_of(Pipeline(NETWORK, DataOptions(), EvalOptions(**options), RerankOptions(), Runtime()))


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": (25.0,)}, {"threshold": (10.0, 25.0)}, {"pose_radius": 9.0}, {"infer_batch_size": 3},
        {"efficient_ram_testing": True},
    ],
)  # fmt: skip
def test_what_changes_no_distance_and_no_judgement_keeps_it(options: dict[str, Any]) -> None:
    assert facts(**options) == facts()


@pytest.mark.parametrize("options", [{"threshold": (10.0,)}, {"pca_dim": 8}, {"scales": (1.0, 0.5)}, {"index": "ivf"}])
def test_what_changes_one_does_not(options: dict[str, Any]) -> None:
    assert facts(**options) != facts()
