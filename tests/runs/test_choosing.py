"""What a training and a test run with."""

from __future__ import annotations

import pytest

from vgbench.runs.choosing import train_settings


@pytest.mark.parametrize(
    ("given", "l2"),
    [
        ({"aggregation": "gem", "train_mode": "places"}, "after_pool"),
        ({"aggregation": "spoc", "train_mode": "places"}, "after_pool"),
        ({"aggregation": "gem", "train_mode": "places", "l2": "before_pool"}, "before_pool"),
        ({"aggregation": "gem", "train_mode": "places", "fc_output_dim": 64}, "before_pool"),
        ({"aggregation": "netvlad", "train_mode": "places"}, "before_pool"),
        ({"aggregation": "gem"}, "before_pool"),
    ],
)
def test_poolings_that_places_train_are_normalised(given: dict[str, object], l2: str) -> None:
    assert train_settings(given).network.l2 == l2
