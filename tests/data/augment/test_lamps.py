"""Lamps and lit windows of a drawn night."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from vgbench.data.augment import AugmentOptions, draw_night, to_night
from vgbench.data.augment.lamps import Lamps, draw_lamps, emission, illumination


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_lamps_light_their_surroundings() -> None:
    lamps = draw_lamps(AugmentOptions(night_lights=5), 4, seeded(7))
    found = illumination(lamps, 30, 40, torch.device("cpu"))
    y, x = (np.arange(30) + 0.5) / 30, (np.arange(40) + 0.5) / 30
    for b in range(4):
        expected = np.zeros((3, 30, 40))
        for k in range(5):
            px, py = lamps.pool[b, k].double().numpy()
            square = (y[:, None] - py) ** 2 + (x - px * 40 / 30) ** 2
            r = float(lamps.reach[b, k])
            falloff = 0.6 * np.exp(-0.5 * square / r**2) + 0.4 * np.exp(-0.5 * square / (2.5 * r) ** 2)
            expected += lamps.colour[b, k].double().numpy()[:, None, None] * falloff
        assert np.abs(found[b].numpy() - expected).max() < 1e-5


def one_light(*, window: bool) -> Lamps:
    one = torch.ones(1, 1)
    return Lamps(
        centre=torch.tensor([[[0.25, 0.5]]]), pool=torch.tensor([[[0.25, 0.5]]]), reach=0.2 * one,
        colour=torch.ones(1, 1, 3), size=torch.full((1, 1, 2), 0.15 if window else 0.02), brightness=5 * one,
        window=one * window,
    )  # fmt: skip


def test_a_lamp_shines_where_it_is() -> None:
    light = emission(one_light(window=False), torch.zeros(1, 1, 60, 80))[0, 0]
    assert divmod(int(light.argmax()), 80) in {(y, x) for y in (29, 30) for x in (19, 20)}
    assert light.max() > 4 and light[30, 60] < 0.05 * light[30, 24] < 0.05 * light[30, 20]
    off = dataclasses.replace(one_light(window=False), colour=torch.zeros(1, 1, 3))
    assert emission(off, torch.ones(1, 1, 60, 80)).abs().max() == 0


def test_a_lit_window_shows_what_is_dark_by_day_bright() -> None:
    dark = torch.zeros(1, 1, 60, 80)
    dark[..., :20] = 1
    light = emission(one_light(window=True), dark)[0, 0]
    assert light[30, 15] > 5 * light[30, 25] > 0.1
    assert light[30, 50] < 1e-3 and light[5, 20] < 1e-3


def test_lights_are_as_many_as_asked_for() -> None:
    lamps = draw_lamps(AugmentOptions(night_lights=6), 3000, seeded(8))
    number = (lamps.colour.sum(-1) > 0).sum(1)
    assert (torch.bincount(number, minlength=7) > 300).all() and number.max() == 6
    none = draw_night(AugmentOptions(night=1, night_lights=0), 3, seeded(8))
    assert torch.isfinite(to_night(torch.rand(3, 3, 20, 30), none)).all()
