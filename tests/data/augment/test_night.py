from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as reference
from torch import Tensor

from vgbench.data.augment import AugmentOptions, BatchAugment, NightParameters, draw_night, to_night
from vgbench.data.augment.lamps import draw_lamps
from vgbench.data.augment.night import add_noise, blur, display, expose, find_sky, luminance
from vgbench.data.decode import decode_image

NIGHT = AugmentOptions(night=1.0)


COUNT, HEIGHT, WIDTH = 12, 48, 64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    """Smooth pictures, float32 [12,3,48,64]."""
    coarse = torch.rand(COUNT, 3, 5, 7, generator=seeded(0))
    return torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)


def quiet(images: Tensor, **changes: object) -> NightParameters:
    """Parameters under which nothing changes but what is said."""
    count = len(images)
    drawn = draw_night(AugmentOptions(night=1.0, night_lights=3), count, seeded(1))
    dark = dataclasses.replace(drawn.lamps, colour=torch.zeros(count, 3, 3))
    one, zero = torch.ones(count), torch.zeros(count)
    neutral = dataclasses.replace(
        drawn, ambient=one, sky=zero, exposure=images.mean((1, 2, 3)), cast=torch.ones(count, 3), gray=zero,
        blur=zero, noise=zero, gamma=one, lamps=dark,
    )  # fmt: skip
    return dataclasses.replace(neutral, **changes)


def test_neutral_parameters_change_nothing(images: Tensor) -> None:
    exact = images.repeat_interleave(8, 2).repeat_interleave(8, 3)  # exposure looks at every eighth pixel
    assert (to_night(exact, quiet(exact)) - exact).abs().max() < 2e-3
    assert to_night(images, quiet(images, applied=torch.zeros(COUNT, dtype=torch.bool))) is images


def test_only_some_images_become_night() -> None:
    assert 0.27 < draw_night(AugmentOptions(night=0.3), 4000, seeded(2)).applied.double().mean() < 0.33
    same = torch.rand(COUNT, 3, HEIGHT, WIDTH, generator=seeded(3))
    drawn = draw_night(AugmentOptions(night=0.5), COUNT, seeded(3))
    changed = (to_night(same, drawn) != same).flatten(1).any(1)
    assert torch.equal(changed, drawn.applied) and 0 < changed.sum() < COUNT


def test_the_batch_may_be_split_anyhow(images: Tensor) -> None:
    drawn = draw_night(NIGHT, COUNT, seeded(4))
    whole = to_night(images, drawn)
    for size in (1, 5):
        parts = [to_night(images[rows], drawn[rows]) for rows in torch.arange(COUNT).split(size)]
        assert (torch.cat(parts) - whole).abs().max() < 1e-5
    assert len(to_night(images[:1].expand(COUNT, -1, -1, -1), drawn).flatten(1).unique(dim=0)) == COUNT


def test_night_has_the_exposure_that_was_drawn(images: Tensor) -> None:
    """Without what comes after exposure; pixels burnt out by lamps are counted in."""
    options = AugmentOptions(night=1.0, night_tint=0.0, night_noise=0.0, night_exposure=(0.15, 0.4))
    drawn = draw_night(options, 64, seeded(5))
    assert 0.15 <= drawn.exposure.min() < 0.17 and 0.38 < drawn.exposure.max() <= 0.4
    days = images.repeat(6, 1, 1, 1)[:64].repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = to_night(days, drawn).mean((1, 2, 3))
    assert (found - drawn.exposure).abs().mean() < 0.02 and (found - drawn.exposure).abs().max() < 0.1


def test_display_luminance_and_exposure_formulas(images: Tensor) -> None:
    light = images.double() * 1.5
    gamma = torch.linspace(0.7, 1.4, COUNT, dtype=torch.float64)
    expected = np.clip(light.numpy(), 0, 1) ** (gamma.numpy()[:, None, None, None] / 2.2)
    assert np.abs(display(light, gamma[:, None, None, None]).numpy() - expected).max() < 1e-12
    gray = light.numpy().transpose(0, 2, 3, 1) @ np.array([0.2126, 0.7152, 0.0722])
    assert np.abs(luminance(light)[:, 0].numpy() - gray).max() < 1e-12
    dim = expose(light, torch.full((COUNT,), 0.1, dtype=torch.float64), gamma)
    gains = (dim / light.clamp(min=1e-9)).flatten(1)
    assert (gains.amax(1) - gains.quantile(0.5, dim=1)).abs().max() < 1e-9 and (gains.quantile(0.5, dim=1) < 1).all()


def test_ambient_light_matters_beside_lamps_only(images: Tensor) -> None:
    """Exposure undoes an even change of light, so lamps stand out more, the less other light there is."""
    dark = to_night(images, quiet(images, ambient=torch.full((COUNT,), 0.1)))
    assert (dark - to_night(images, quiet(images))).abs().max() < 0.02
    lamps = dataclasses.replace(
        draw_lamps(AugmentOptions(night_lights=1), COUNT, seeded(1)),
        centre=torch.tensor([0.5, 0.5]).expand(COUNT, 1, 2), pool=torch.tensor([0.5, 0.5]).expand(COUNT, 1, 2),
        reach=torch.full((COUNT, 1), 0.15), colour=torch.ones(COUNT, 1, 3),
    )  # fmt: skip
    flat = torch.full_like(images, 0.5)
    ratios = []
    for ambient in (0.05, 0.5):
        night = to_night(flat, quiet(flat, ambient=torch.full((COUNT,), ambient), lamps=lamps))
        ratios.append(night[:, :, 20:28, 28:36].mean() / night[:, :, :4, :4].mean())
    assert ratios[0] > 1.5 * ratios[1] > 1.5


def test_noise_has_the_strength_and_the_grain_that_were_drawn() -> None:
    flat = torch.full((2, 3, 200, 300), 0.2)
    drawn = quiet(flat, noise=torch.tensor([0.3, 0.3]), grain=torch.tensor([0.0, 1.0]), gray=torch.tensor([0.0, 1.0]))
    noise = add_noise(flat, drawn) - 0.2
    assert noise.mean().abs() < 0.01
    assert (noise.std((2, 3)) / (0.3 * 0.2) - 1).abs().max() < 0.03

    def neighbours(values: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([values[:, :-1].flatten(), values[:, 1:].flatten()]))[0, 1])

    assert abs(neighbours(noise[0, 0])) < 0.02 and neighbours(noise[1, 0]) > 0.5
    between = torch.corrcoef(noise[0].flatten(1))
    assert 0.5 < between[0, 1] < 0.75 and torch.equal(noise[1, 0], noise[1, 1])
    # More light, more noise; but less of it for its light.
    steps = torch.cat([torch.full((1, 3, 200, 150), 0.05), torch.full((1, 3, 200, 150), 0.45)], 3)
    noise = add_noise(steps, quiet(steps, noise=torch.tensor([0.2]))) - steps
    dark, bright = noise[..., :150].std(), noise[..., 150:].std()
    expected = math.sqrt((0.15 * 0.25 + 0.85 * 0.45) / (0.15 * 0.25 + 0.85 * 0.05))
    assert abs(bright / dark - expected) < 0.1


def test_gray_and_cast(images: Tensor) -> None:
    gray = to_night(images, quiet(images, gray=torch.ones(COUNT), cast=torch.tensor([[2.0, 1.0, 0.5]] * COUNT)))
    assert (gray - gray[:, :1]).abs().max() < 1e-6
    flat = torch.full_like(images, 0.5)
    warm = to_night(flat, quiet(flat, cast=torch.tensor([[1.4, 1.0, 0.7]] * COUNT)))
    linear = warm**2.2
    assert (linear[:, 0] / linear[:, 2] - 2).abs().max() < 1e-3
    share = draw_night(AugmentOptions(night=1, night_gray=0.3), 4000, seeded(5)).gray
    assert 0.27 < (share == 1).double().mean() < 0.33


def test_tint_leans_to_warm() -> None:
    cast = draw_night(AugmentOptions(night=1, night_tint=0.8), 4000, seeded(6)).cast
    stops = (cast[:, 0] / cast[:, 2]).log2()
    assert -0.25 < stops.min() < -0.2 and 0.75 < stops.max() < 0.81 and stops.mean() > 0.2
    assert (cast[:, 1] >= 1).all()
    assert torch.equal(draw_night(AugmentOptions(night=1, night_tint=0), 9, seeded(6)).cast, torch.ones(9, 3))


def test_blur_is_torchvisions(images: Tensor) -> None:
    sigma = torch.linspace(0, 2.5, COUNT)
    found = blur(images.double(), sigma)
    assert torch.equal(found[0], images[0].double())
    for i in range(1, COUNT):
        size = 2 * math.ceil(3 * float(sigma[i])) + 1
        expected = reference.gaussian_blur(images[i].double(), [size, size], [float(sigma[i])] * 2)
        assert (found[i] - expected).abs().max() < 1e-5


def test_the_sky_is_found_above_and_not_behind_things() -> None:
    picture = torch.zeros(3, 3, 96, 128)
    picture[:, :, :40] = torch.tensor([0.6, 0.75, 0.95])[:, None, None]  # sky
    picture[:, :, 40:] = torch.tensor([0.5, 0.4, 0.3])[:, None, None]  # street
    picture[0, :, 10:40, 60:64] = 0.1  # a pole
    picture[1, :, :12] = 0.2  # a ceiling: what is bright below it is a wall
    picture[2, :, 60:90, 30:60] = 0.95  # a white van
    sky = find_sky(picture)[:, 0]
    assert (sky[0, :36, :50] > 0.9).all() and (sky[0, 48:] < 0.05).all() and (sky[0, 14:36, 61:63] < 0.05).all()
    assert (sky[1] < 0.1).all()
    assert (sky[2, :36] > 0.9).all() and (sky[2, 60:90] < 0.05).all()
    by_night = to_night(picture[:1], quiet(picture[:1], sky=torch.tensor([0.95])))
    assert by_night[0, :, :36, :50].mean() < 0.6 * by_night[0, :, 60:].mean() and picture[0, :, 0].mean() > 0.7


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_black_and_white_pictures_stay_finite(fill: float) -> None:
    found = to_night(torch.full((8, 3, 30, 40), fill), draw_night(NIGHT, 8, seeded(9)))
    assert torch.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("size", [(9, 7), (33, 65)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (3, 3, *size), generator=seeded(1), dtype=torch.uint8)
    strong = AugmentOptions(night=1.0, night_blur=10.0)
    assert BatchAugment(strong)(images, seeded(2)).shape == images.shape


def test_real_photographs_become_dark_with_less_colour_in_a_dark_sky(real_photographs: Path) -> None:
    paths = sorted((real_photographs / "cambridge/images/train/queries").rglob("*.jpg"))[::60]
    images = torch.stack([decode_image(path, (120, 160)) for path in paths])
    night = BatchAugment(NIGHT)(images, seeded(1))
    day, dark = images.float() / 255, night.float() / 255
    assert dark.mean() < 0.75 * day.mean()
    sky = find_sky(day)
    assert 0.03 < sky.mean() < 0.5
    weight = sky.sum((2, 3))
    some = weight[:, 0] > 500
    before = ((day * sky).sum((2, 3)) / weight).mean(1) / day.mean((1, 2, 3))
    after = ((dark * sky).sum((2, 3)) / weight).mean(1) / dark.mean((1, 2, 3))
    assert some.sum() >= 3 and (after < before)[some].double().mean() > 0.8
