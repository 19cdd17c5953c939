"""Which places share a batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from recipes import PLACES_OPTIONS

from vgbench.training.modes.sample_places import OVERLAP, Sites, draw_batches


@pytest.mark.parametrize("gap", [0.0, 30.0, 100.0])
def test_places_of_a_batch_are_apart(gap: float) -> None:
    rng = np.random.default_rng(0)
    count = 60
    sites = Sites(
        rows=np.arange(4 * count), starts=np.arange(0, 4 * count + 1, 4), usable=np.arange(count),
        centres=rng.uniform(0, 200, (count, 2)), headings=rng.choice([0.0, 50.0, 90.0, 359.0, np.nan], count),
        radii=rng.uniform(0, 9, count),
    )  # fmt: skip
    options = dataclasses.replace(PLACES_OPTIONS, place_gap=gap, places_per_batch=8, img_per_place=3)
    batches = draw_batches(sites, options, np.random.default_rng(1))

    def are_apart(one: int, other: int) -> bool:
        apart = np.linalg.norm(sites.centres[one] - sites.centres[other])
        turned = abs((sites.headings[one] - sites.headings[other] + 180) % 360 - 180) >= OVERLAP
        return bool(turned or apart >= gap + sites.radii[one] + sites.radii[other])

    seen: list[int] = []
    for rows, labels in batches:
        places = labels[::3]
        assert 1 < len(places) <= 8 and (labels.reshape(-1, 3) == places[:, None]).all()
        assert len(set(rows.tolist())) == len(rows) and (rows // 4 == labels).all()
        seen += places.tolist()
        assert all(are_apart(one, other) for i, one in enumerate(places) for other in places[:i])
    assert len(set(seen)) == len(seen)
    # What is left over could not have made a batch.
    left = sorted({*range(count)} - {*seen})
    assert not any(are_apart(one, other) for i, one in enumerate(left) for other in left[:i])


def test_neighbours_stand_together_in_a_batch() -> None:
    count = 80
    east = np.arange(count) * 30.0
    sites = Sites(
        rows=np.arange(2 * count), starts=np.arange(0, 2 * count + 1, 2), usable=np.arange(count),
        centres=np.stack([east, 0 * east], 1), headings=np.zeros(count), radii=np.zeros(count),
    )  # fmt: skip
    spans = {}
    for spread in (None, 120.0):
        options = dataclasses.replace(
            PLACES_OPTIONS, place_spread=spread, places_per_batch=8, img_per_place=2, min_img_per_place=2
        )
        batches = draw_batches(sites, options, np.random.default_rng(0))
        assert sorted(np.concatenate([labels[::2] for _, labels in batches])) == list(range(count))
        spans[spread] = np.median([np.ptp(east[labels]) for _, labels in batches[:5]])
    assert spans[120.0] <= 240 < spans[None]
