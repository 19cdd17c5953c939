from __future__ import annotations

import pytest
import torch
import torchvision.transforms.functional as reference
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

from vgbench.data import augment
from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.data.augment.rand_augment import OPERATIONS
from vgbench.errors import UserError

COUNT, HEIGHT, WIDTH = 14, 37, 50
_TORCHVISION = (
    "Identity ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness Posterize Solarize "
    "AutoContrast Equalize"
)
THEIR_NAMES = dict(zip(OPERATIONS, _TORCHVISION.split(), strict=True))


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


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_rand_augments_operations_are_torchvisions(images: Tensor, name: str, magnitude: int) -> None:
    space = RandAugment()._augmentation_space(31, (HEIGHT, WIDTH))
    levels, signed = space[THEIR_NAMES[name]]
    level = float(levels[magnitude]) if levels.ndim else 0.0
    for sign in (1, -1) if signed else (1,):
        drawn = torch.tensor([[[OPERATIONS.index(name), sign]]]).expand(COUNT, 1, 2)
        found = augment.apply_operations(images, drawn, magnitude)
        for i in range(COUNT):
            expected = _apply_op(images[i], THEIR_NAMES[name], sign * level, InterpolationMode.BILINEAR, None)
            apart = (found[i].int() - expected.int()).abs()
            assert apart.max() <= 1 and apart.double().mean() < 0.1  # theirs cuts off what ours rounds


def test_rand_augment_draws_what_torchvision_draws() -> None:
    drawn = augment.draw_operations(AugmentOptions(rand_augment=(3, 9)), 5000, seeded(4))
    assert drawn.shape == (5000, 3, 2)
    counts = torch.bincount(drawn[..., 0].flatten(), minlength=len(OPERATIONS)).double() / 15000
    assert (counts - 1 / len(OPERATIONS)).abs().max() < 0.01
    space = RandAugment()._augmentation_space(31, (HEIGHT, WIDTH))
    for index, name in enumerate(OPERATIONS):
        signs = drawn[drawn[..., 0] == index][:, 1].double()
        assert (0.4 < (signs > 0).double().mean() < 0.6) if space[THEIR_NAMES[name]][1] else (signs == 1).all()


def test_rand_augment_steps_follow_each_other(images: Tensor) -> None:
    drawn = augment.draw_operations(AugmentOptions(rand_augment=(2, 12)), COUNT, seeded(5))
    one_after_another = augment.apply_operations(augment.apply_operations(images, drawn[:, :1], 12), drawn[:, 1:], 12)
    both = augment.apply_operations(images, drawn, 12)
    assert torch.equal(both, one_after_another) and not torch.equal(both, images)
    for i in range(COUNT):
        assert torch.equal(both[i : i + 1], augment.apply_operations(images[i : i + 1], drawn[i : i + 1], 12))


def test_erasing_fills_a_rectangle_with_noise_and_nothing_else(images: Tensor) -> None:
    values = images.double() / 255
    boxes = augment.draw_boxes(
        AugmentOptions(random_erasing=0.6, erasing_area=(0.1, 0.3)), COUNT, HEIGHT, WIDTH, seeded(6)
    )
    found = augment.erase(values, boxes)
    erased = 0
    for i in range(COUNT):
        top, left, h, w = boxes[i, :4].tolist()
        inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        inside[top : top + h, left : left + w] = True
        assert torch.equal(found[i][:, ~inside], values[i][:, ~inside])
        assert top + h <= HEIGHT and left + w <= WIDTH
        if h * w:
            erased += 1
            assert (found[i][:, inside] != values[i][:, inside]).double().mean() > 0.98
        assert torch.equal(found[i : i + 1], augment.erase(values[i : i + 1], boxes[i : i + 1]))
    assert 3 < erased < COUNT


def test_erased_rectangles_have_the_papers_sizes() -> None:
    options = AugmentOptions(random_erasing=0.7, erasing_area=(0.05, 0.4))
    boxes = augment.draw_boxes(options, 4000, 480, 640, seeded(7))
    h, w = boxes[:, 2].double(), boxes[:, 3].double()
    some = h * w > 0
    assert 0.66 < some.double().mean() < 0.74
    area, ratio = (h * w / (480 * 640))[some], (h / w)[some]
    assert 0.049 < area.min() < 0.07 and 0.36 < area.max() < 0.401
    assert 0.29 < ratio.min() < 0.4 and 2.5 < ratio.max() < 3.4
    # Uniform noise: mean and spread of 0..1.
    pixels = augment.erase(torch.zeros(1, 3, 480, 640), torch.tensor([[0, 0, 480, 640, 1, 2, 3, 4, 500, 6]]))
    assert abs(pixels.mean() - 0.5) < 0.01 and abs(pixels.std() - 12**-0.5) < 0.01


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
