from __future__ import annotations

import pytest
import torch
import torchvision.transforms.functional as reference
from torch import Tensor

from vgbench.data import augment
from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.errors import UserError

COUNT, HEIGHT, WIDTH = 14, 37, 50


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(20, 230, (COUNT, 3, HEIGHT, WIDTH), generator=seeded(0), dtype=torch.uint8)


def test_tone_is_torchvisions_one_image_at_a_time(images: Tensor) -> None:
    options = AugmentOptions(sharpness=1.5, gamma=1.0, gain=0.7)
    drawn = augment.draw_tone(options, COUNT, seeded(1))
    values = images.double() / 255
    found = augment.change_tone(values, drawn)
    for i in range(COUNT):
        expected = reference.adjust_sharpness(values[i], float(drawn.sharpness[i]))
        expected = reference.adjust_gamma(expected, float(drawn.gamma[i]), float(drawn.gain[i]))
        assert (found[i] - expected).abs().max() < 1e-6


def test_tone_ranges_are_even_on_both_sides() -> None:
    drawn = augment.draw_tone(AugmentOptions(sharpness=2.0, gamma=1.0, gain=1.5), 4000, seeded(2))
    assert 0 <= drawn.sharpness.min() < 0.01 and 2.99 < drawn.sharpness.max() <= 3
    for values, limit in ((drawn.gamma, 1.0), (drawn.gain, 1.5)):
        stops = values.log2()
        assert -limit - 1e-5 <= stops.min() < -0.99 * limit and 0.99 * limit < stops.max() <= limit + 1e-5
        assert stops.mean().abs() < 0.05
    still = augment.draw_tone(AugmentOptions(), 5, seeded(3))
    assert all(torch.equal(value, torch.ones(5)) for value in (still.sharpness, still.gamma, still.gain))


@pytest.mark.parametrize(
    "options",
    [
        AugmentOptions(sharpness=0.9),
        AugmentOptions(gamma=1.0),
        AugmentOptions(gain=1.0),
        AugmentOptions(rand_augment=(2, 15)),
        AugmentOptions(random_erasing=0.9),
        AugmentOptions(night=0.9),
    ],
)
def test_every_option_reaches_the_batch_and_follows_the_generator(images: Tensor, options: AugmentOptions) -> None:
    kept = images.clone()
    first = BatchAugment(options)(images, seeded(1))
    assert first.dtype == torch.uint8 and first.shape == images.shape and torch.equal(images, kept)
    assert not torch.equal(first, images)
    assert torch.equal(first, BatchAugment(options)(images, seeded(1)))
    assert not torch.equal(first, BatchAugment(options)(images, seeded(2)))


def test_draws_of_older_options_are_as_they_were(images: Tensor) -> None:
    """A seed gives the same colours and places whatever else is switched on."""
    options = AugmentOptions(brightness=0.4, hue=0.2, random_rotation=30, random_resized_crop=0.4)
    generator = seeded(3)
    colours = augment.draw_colour(options, COUNT, generator)
    places = augment.draw_geometry(options, COUNT, HEIGHT, WIDTH, generator)
    expected = augment.warp(augment.jitter_colour(images.float() / 255, colours), places)
    found = BatchAugment(options)(images, seeded(3))
    assert torch.equal(found, (expected * 255).round().clamp(0, 255).to(torch.uint8))
    later = augment.erase(
        expected, augment.draw_boxes(AugmentOptions(random_erasing=1), COUNT, HEIGHT, WIDTH, generator)
    )
    more = AugmentOptions(**{**vars(options), "random_erasing": 1.0})
    assert torch.equal(BatchAugment(more)(images, seeded(3)), (later * 255).round().clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sharpness", -1.0),
        ("gamma", float("nan")),
        ("gain", 11.0),
        ("rand_augment", (-1, 9)),
        ("rand_augment", (2, 31)),
        ("random_erasing", 1.1),
        ("erasing_area", (0.5, 0.2)),
        ("night", 2.0),
        ("night_exposure", (0.0, 0.5)),
        ("night_ambient", (0.3, 0.1)),
        ("night_lights", -1),
        ("night_sky", 1.5),
        ("night_noise", -0.1),
        ("multi_resolution", ()),
        ("multi_resolution", (1.0, 0.0)),
        ("translated_probability", 1.5),
        ("fda_beta", 0.6),
        ("fda_probability", -1.0),
        ("fda_images", 0),
    ],
)
def test_impossible_values_of_newer_options_name_them(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"--{name}"):
        AugmentOptions(**{name: value})
