"""SALAD: optimal transport, and what it needs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.errors import UserError
from vgbench.models import build_aggregation
from vgbench.models.aggregation.salad import transport

CHANNELS, HEIGHT, WIDTH = 12, 7, 10


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 9), st.floats(-2, 2), st.integers(0, 99))
def test_transport_is_sinkhorns(batch: int, clusters: int, more: int, dust_bin: float, seed: int) -> None:
    torch.manual_seed(seed)
    scores = torch.randn(batch, clusters, clusters + more)
    shares = transport(scores, torch.tensor(dust_bin), 3)
    for image, result in zip(scores.double(), shares.double(), strict=True):
        plan = torch.cat([image, torch.full((1, image.shape[1]), dust_bin, dtype=torch.float64)]).exp()
        masses = torch.tensor([1.0] * clusters + [float(more)], dtype=torch.float64)
        for _ in range(3):
            plan = plan * (masses / plan.sum(dim=1)).unsqueeze(1)
            plan = plan / plan.sum(dim=0)
        torch.testing.assert_close(result, plan[:-1], atol=1e-4, rtol=1e-3)
    settled = transport(scores, torch.tensor(dust_bin), 500)
    torch.testing.assert_close(settled.sum(dim=2), torch.ones(batch, clusters), atol=1e-2, rtol=0)


def test_salad_needs_more_features_than_clusters() -> None:
    layer = build_aggregation("salad", CHANNELS, num_clusters=70)
    with pytest.raises(UserError, match="70 local features for 70 clusters"):
        layer((torch.rand(1, CHANNELS, HEIGHT, WIDTH), torch.rand(1, CHANNELS)))
