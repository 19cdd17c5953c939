"""Noise of one tile: what it is distributed as, and that an image's own part of it depends on its offsets alone."""

import pytest
import torch

from vgbench.data.augment.noise import TILE, draw_offsets, normal_noise, uniform_noise

CPU = torch.device("cpu")


def test_offsets_are_places_in_the_tile():
    offsets = draw_offsets(500, 3, torch.Generator().manual_seed(0))
    assert offsets.shape == (500, 3, 2) and int(offsets.min()) >= 0 and int(offsets.max()) < TILE


@pytest.mark.parametrize("coarse", [False, True])
def test_normal_noise_has_mean_0_and_variance_1(coarse):
    found = normal_noise(torch.zeros(1, 1, 2, dtype=torch.int64), TILE, TILE, CPU, coarse=coarse)
    assert abs(float(found.mean())) < 1e-3 and abs(float(found.std()) - 1) < 1e-3
    neighbours = float((found[..., 1:] * found[..., :-1]).mean())
    assert neighbours == pytest.approx(2 / 3 if coarse else 0, abs=0.02)  # two of three columns of a mean are shared


def test_uniform_noise_fills_0_to_1():
    found = uniform_noise(torch.zeros(1, 1, 2, dtype=torch.int64), TILE, TILE, CPU)
    assert float(found.min()) >= 0 and float(found.max()) < 1
    assert float(found.mean()) == pytest.approx(0.5, abs=1e-2) and float(found.var()) == pytest.approx(1 / 12, abs=1e-3)


def test_an_image_is_cut_out_at_its_offset_and_the_tile_goes_on_at_its_end():
    whole = uniform_noise(torch.zeros(1, 1, 2, dtype=torch.int64), TILE, TILE, CPU)[0, 0]
    offsets = torch.tensor([[[5, 7], [TILE - 2, TILE - 1]]])
    found = uniform_noise(offsets, 4, 3, CPU)
    assert torch.equal(found[0, 0], whole[5:9, 7:10])
    assert torch.equal(found[0, 1], whole.roll((2, 1), (0, 1))[:4, :3])
