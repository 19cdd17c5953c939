from __future__ import annotations

import dataclasses

import pytest
import torch
import torchvision.transforms as transforms
import torchvision.transforms.functional as reference
from torch import Tensor
from torchvision.transforms import InterpolationMode

from vgbench.data import augment
from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.data.triplets import TripletBatch
from vgbench.errors import UserError

EVERYTHING = AugmentOptions(
    brightness=0.5,
    contrast=0.5,
    saturation=0.5,
    hue=0.3,
    rand_perspective=0.5,
    random_resized_crop=0.5,
    random_rotation=20.0,
)
COUNT, HEIGHT, WIDTH = 16, 45, 60


@pytest.fixture
def images() -> Tensor:
    """Smooth pictures, uint8 [16,3,45,60], so that a wrong place shows and a different rounding does not."""
    coarse = torch.rand(COUNT, 3, 5, 7, generator=seeded(0))
    smooth = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inner(mask: Tensor, pixels: int = 2) -> Tensor:
    """Return where a bool [H,W] mask holds all around: borders are blended differently everywhere."""
    size = 2 * pixels + 1
    outside = torch.nn.functional.pad(~mask[None, None], [pixels] * 4, value=True).float()
    return torch.nn.functional.max_pool2d(outside, size, 1)[0, 0] == 0


def test_colour_is_torchvisions_one_image_at_a_time(images: Tensor) -> None:
    drawn = augment.draw_colour(EVERYTHING, COUNT, seeded(1))
    values = images.double() / 255
    found = augment.jitter_colour(values, drawn)
    operations = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    )
    for i in range(COUNT):
        expected = values[i]
        for operation in drawn.order[i].tolist():
            expected = operations[operation](expected, float(drawn.factors[i, operation]))
        assert (found[i] - expected).abs().max() < 1e-5
    assert len({tuple(order) for order in drawn.order.tolist()}) > 8


def test_colour_ranges_are_torchvisions() -> None:
    options = AugmentOptions(brightness=0.2, contrast=1.5, hue=0.1)
    factors = augment.draw_colour(options, 2000, seeded(2)).factors
    jitter = transforms.ColorJitter(0.2, 1.5, 0, 0.1)
    ranges = (jitter.brightness, jitter.contrast, (1, 1), jitter.hue)
    for column, (low, high) in zip(factors.T, ranges, strict=True):
        assert low - 1e-6 <= column.min() <= low + 0.01 * (high - low) + 1e-6
        assert high - 0.01 * (high - low) - 1e-6 <= column.max() <= high + 1e-6


def test_rotation_is_torchvisions(images: Tensor) -> None:
    angles = torch.linspace(-170, 180, COUNT, dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64).expand(COUNT, 3, 3)
    drawn = augment.GeometryParameters(augment.rotation_matrices(angles, HEIGHT, WIDTH), eye, eye)
    values = images.float() / 255
    found = augment.warp(values, drawn)
    for i in range(COUNT):
        expected = reference.rotate(values[i], float(angles[i]), InterpolationMode.BILINEAR)
        here = reference.rotate(torch.ones(1, HEIGHT, WIDTH), float(angles[i]), InterpolationMode.BILINEAR)[0] > 0.999
        assert inner(here).sum() > 500 and (found[i] - expected)[:, inner(here)].abs().max() < 2e-3
        assert (found[i][:, inner(~here)] == 0).all()


def test_crop_is_torchvisions(images: Tensor) -> None:
    boxes = augment.draw_crops(0.8, COUNT, HEIGHT, WIDTH, seeded(3))
    eye = torch.eye(3, dtype=torch.float64).expand(COUNT, 3, 3)
    values = images.float() / 255
    found = augment.warp(values, augment.GeometryParameters(eye, augment.crop_matrices(boxes, HEIGHT, WIDTH), eye))
    for i in range(COUNT):
        expected = reference.resized_crop(values[i], *boxes[i].tolist(), [HEIGHT, WIDTH], antialias=False)
        here = inner(torch.ones(HEIGHT, WIDTH, dtype=torch.bool), 4)
        assert (found[i] - expected)[:, here].abs().max() < 1e-4
    assert len(set(boxes[:, 2].tolist())) > 5


def test_perspective_is_torchvisions(images: Tensor) -> None:
    ends = augment.draw_corners(0.6, COUNT, HEIGHT, WIDTH, seeded(4))
    eye = torch.eye(3, dtype=torch.float64).expand(COUNT, 3, 3)
    drawn = augment.GeometryParameters(eye, eye, augment.perspective_matrices(ends, HEIGHT, WIDTH))
    values = images.float() / 255
    found = augment.warp(values, drawn)
    start = [[0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1]]
    moved = 0
    for i in range(COUNT):
        end = ends[i].long().tolist()
        moved += end != start
        expected = reference.perspective(values[i], start, end)
        here = reference.perspective(torch.ones(1, HEIGHT, WIDTH), start, end)[0] > 0.999
        assert inner(here).sum() > 200 and (found[i] - expected)[:, inner(here)].abs().max() < 2e-3
        assert (found[i][:, inner(~here)] == 0).all()
    assert 3 <= moved <= 13


def test_all_geometry_at_once_is_torchvisions_steps_in_the_fields_order(images: Tensor) -> None:
    angles = torch.linspace(-20, 20, COUNT, dtype=torch.float64)
    boxes = augment.draw_crops(0.5, COUNT, HEIGHT, WIDTH, seeded(5))
    ends = augment.draw_corners(0.5, COUNT, HEIGHT, WIDTH, seeded(6))
    start = [[0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1]]

    def in_steps(image: Tensor, i: int) -> Tensor:
        image = reference.perspective(image, start, ends[i].long().tolist())
        image = reference.resized_crop(image, *boxes[i].tolist(), [HEIGHT, WIDTH], antialias=False)
        return reference.rotate(image, float(angles[i]), InterpolationMode.BILINEAR)

    drawn = augment.GeometryParameters(
        augment.rotation_matrices(angles, HEIGHT, WIDTH),
        augment.crop_matrices(boxes, HEIGHT, WIDTH),
        augment.perspective_matrices(ends, HEIGHT, WIDTH),
    )
    values = images.float() / 255
    found = augment.warp(values, drawn)
    for i in range(COUNT):
        expected, here = in_steps(values[i], i), in_steps(torch.ones(1, HEIGHT, WIDTH), i)[0]
        seen = inner(here > 0.999)
        # Three interpolations blur what one does not: equal in place, not to the last digit.
        assert seen.sum() > 300 and (found[i] - expected)[:, seen].abs().mean() < 0.01
        assert (found[i][:, inner(here == 0)] == 0).all()


def test_crops_follow_torchvisions_distribution() -> None:
    boxes = augment.draw_crops(0.4, 4000, 480, 640, seeded(6))
    top, left, h, w = boxes.double().unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 480).all() and (left + w <= 640).all()
    area, ratio = h * w / (480 * 640), w / h
    assert area.min() > 0.59 and area.max() <= 1 and ratio.min() > 0.745 and ratio.max() < 1.34
    assert top[h < 400].min() == 0 and (top + h)[h < 400].max() == 480
    torch.manual_seed(0)
    theirs = torch.tensor(
        [
            transforms.RandomResizedCrop.get_params(torch.empty(3, 480, 640), [0.6, 1], [3 / 4, 4 / 3])
            for _ in range(2000)
        ]
    ).double()
    assert (boxes.double().mean(0) - theirs.mean(0)).abs().max() < 6  # pixels
    assert (boxes.double().std(0) - theirs.std(0)).abs().max() < 6


def test_corners_follow_torchvisions_range() -> None:
    ends = augment.draw_corners(0.5, 4000, 480, 640, seeded(7))
    start = torch.tensor([[0, 0], [639, 0], [639, 479], [0, 479]])
    moves = (ends - start).abs()
    assert moves.amax((0, 1)).tolist() == [160, 120] and (ends == ends.round()).all()
    assert 0.45 < (moves.sum((1, 2)) == 0).double().mean() < 0.55


@pytest.mark.parametrize("options", [EVERYTHING, AugmentOptions(brightness=0.9), AugmentOptions(random_rotation=90)])
def test_a_seed_gives_the_same_images_and_every_image_its_own(images: Tensor, options: AugmentOptions) -> None:
    same = images[:1].expand(COUNT, -1, -1, -1).contiguous()
    kept = same.clone()
    first = BatchAugment(options)(same, seeded(8))
    assert first.dtype == torch.uint8 and first.shape == same.shape and torch.equal(same, kept)
    assert torch.equal(first, BatchAugment(options)(same, seeded(8)))
    assert not torch.equal(first, BatchAugment(options)(same, seeded(9)))
    assert len(first.flatten(1).unique(dim=0)) == COUNT


def test_nothing_asked_nothing_done(images: Tensor) -> None:
    assert BatchAugment(AugmentOptions(horizontal_flip=True))(images, seeded(0)) is images
    still = augment.warp(images.float(), augment.draw_geometry(AugmentOptions(), COUNT, HEIGHT, WIDTH, seeded(0)))
    assert (still - images).abs().max() < 0.01
    assert len(BatchAugment(EVERYTHING)(images[:0], seeded(0))) == 0


@pytest.fixture
def batch(images: Tensor) -> TripletBatch:
    """Four triplets that share images: the third's positive is the first's negative."""
    return TripletBatch(
        images=images[:14],
        is_query=torch.arange(14) < 4,
        query=torch.arange(4),
        positive=torch.tensor([4, 5, 6, 7]),
        negatives=torch.tensor([[6, 8], [9, 4], [10, 11], [12, 13]]),
    )


def test_only_queries_are_augmented(batch: TripletBatch) -> None:
    before = batch.images.clone()
    after = BatchAugment(EVERYTHING).augment_queries(batch, seeded(1))
    assert torch.equal(after.images[4:], before[4:]) and torch.equal(batch.images, before)
    assert all(not torch.equal(after.images[i], before[i]) for i in range(4))
    assert torch.equal(after.images[:4], BatchAugment(EVERYTHING)(before[:4], seeded(1)))
    assert BatchAugment(AugmentOptions()).augment_queries(batch, seeded(1)) is batch


def test_a_triplet_is_mirrored_whole_or_not_at_all(batch: TripletBatch) -> None:
    mirrored = 0
    for seed in range(20):
        after = BatchAugment(AugmentOptions(horizontal_flip=True)).flip_triplets(batch, seeded(seed))
        for t in range(4):
            old = [batch.query[t], batch.positive[t], *batch.negatives[t]]
            new = [after.query[t], after.positive[t], *after.negatives[t]]
            flipped = [torch.equal(after.images[n], batch.images[o].flip(-1)) for o, n in zip(old, new, strict=True)]
            kept = [torch.equal(after.images[n], batch.images[o]) for o, n in zip(old, new, strict=True)]
            assert all(flipped) or all(kept)
            mirrored += all(flipped)
            assert after.is_query[new[0]] and not any(after.is_query[n] for n in new[1:])
        assert len(after.images) <= 14 + 2
        assert after.query.shape == (4,) and after.negatives.shape == (4, 2)
    assert 25 <= mirrored <= 55
    assert BatchAugment(AugmentOptions()).flip_triplets(batch, seeded(0)) is batch


def test_augment_triplets_does_both(batch: TripletBatch) -> None:
    both = BatchAugment(dataclasses.replace(EVERYTHING, horizontal_flip=True))
    generator = seeded(3)
    expected = both.flip_triplets(both.augment_queries(batch, generator), generator)
    assert torch.equal(both.augment_triplets(batch, seeded(3)).images, expected.images)


@pytest.mark.gpu
def test_the_gpu_computes_the_same(images: Tensor) -> None:
    on_cpu = BatchAugment(EVERYTHING)(images, seeded(1)).float()
    on_gpu = BatchAugment(EVERYTHING)(images.cuda(), seeded(1)).cpu().float()
    assert (on_cpu - on_gpu).abs().mean() < 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("brightness", -0.1),
        ("contrast", float("nan")),
        ("hue", 0.6),
        ("rand_perspective", 1.5),
        ("random_resized_crop", 1.0),
        ("random_rotation", float("inf")),
    ],
)
def test_impossible_values_name_their_option(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--{name}"):
        AugmentOptions(**{name: value})  # type: ignore[arg-type]
