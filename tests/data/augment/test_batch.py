from __future__ import annotations

import pytest
import torch
import torchvision.transforms.functional as reference
from torch import Tensor
from torchvision.transforms import InterpolationMode

from vgbench.data.augment import AugmentOptions, BatchAugment, resize_batch
from vgbench.data.triplets import TripletBatch

COUNT, HEIGHT, WIDTH = 10, 96, 128


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (COUNT, 3, HEIGHT, WIDTH), generator=seeded(0), dtype=torch.uint8)


@pytest.mark.parametrize("size", [(64, 96), (128, 160), (42, 56)])
def test_resizing_is_torchvisions(images: Tensor, size: tuple[int, int]) -> None:
    expected = reference.resize(images.double(), list(size), InterpolationMode.BILINEAR, antialias=True)
    found = resize_batch(images, size)
    assert found.dtype == torch.uint8 and (found.double() - expected).abs().max() < 1.5  # rounded along both axes


def test_batches_come_in_the_sizes_asked_for(images: Tensor) -> None:
    augment = BatchAugment(AugmentOptions(multi_resolution=(0.5, 1.0, 1.4)))
    found: dict[tuple[int, ...], int] = {}
    for seed in range(90):
        size = tuple(augment(images[:1], seeded(seed)).shape[2:])
        found[size] = found.get(size, 0) + 1
    # 1.4 times 96 and 128 are 134.4 and 179.2; 0.5 times are 48 and 64: rounded to multiples of 32.
    assert found.keys() == {(64, 64), (96, 128), (128, 192)} and min(found.values()) > 18
    assert torch.equal(augment(images, seeded(3)), augment(images, seeded(3)))


def test_sides_are_multiples_of_the_networks_patch(images: Tensor) -> None:
    augment = BatchAugment(AugmentOptions(multi_resolution=(0.5,)), multiple=14)
    assert augment(images, seeded(0)).shape == (COUNT, 3, 42, 70)
    augment.multiple = 1
    assert augment(images, seeded(0)).shape == (COUNT, 3, 48, 64)
    tiny = BatchAugment(AugmentOptions(multi_resolution=(0.1,)))
    assert tiny(images, seeded(0)).shape == (COUNT, 3, 32, 32)


def test_the_trainings_own_size_stays_whatever_the_multiple(images: Tensor) -> None:
    odd = images[:, :, :95, :127]
    assert BatchAugment(AugmentOptions(multi_resolution=(1.0,)))(odd, seeded(0)) is odd


def test_images_are_varied_before_they_are_resized(images: Tensor) -> None:
    augment = BatchAugment(AugmentOptions(brightness=0.5, multi_resolution=(0.5, 0.75)))
    generator = seeded(1)
    varied = augment.vary(images, generator)
    assert varied.shape == images.shape
    assert torch.equal(augment(images, seeded(1)), augment.resize(varied, generator))


def test_a_batch_of_triplets_is_resized_as_a_whole(images: Tensor) -> None:
    batch = TripletBatch(
        images=images, is_query=torch.arange(COUNT) < 2, query=torch.tensor([0, 1]), positive=torch.tensor([2, 3]),
        negatives=torch.tensor([[4, 5, 6], [7, 8, 9]]),
    )  # fmt: skip
    augment = BatchAugment(AugmentOptions(brightness=0.5, multi_resolution=(0.7,)))
    found = augment.augment_triplets(batch, seeded(2))
    assert found.images.shape == (COUNT, 3, 64, 96)
    assert torch.equal(found.images[2:], resize_batch(images[2:], (64, 96)))
    assert torch.equal(found.images[:2], resize_batch(augment.vary(images[:2], seeded(2)), (64, 96)))


def test_a_place_is_mirrored_whole_or_not_at_all(images: Tensor) -> None:
    places = torch.tensor([7, 7, 3, 3, 3, 9, 9, 7, 1, 1])
    augment = BatchAugment(AugmentOptions(horizontal_flip=True))
    seen = torch.zeros(10)
    for seed in range(60):
        found = augment.flip_places(images, places, seeded(seed))
        flipped = torch.tensor([torch.equal(found[i], images[i].flip(-1)) for i in range(COUNT)])
        kept = torch.tensor([torch.equal(found[i], images[i]) for i in range(COUNT)])
        assert torch.equal(flipped, ~kept)
        for place in (1, 3, 7, 9):
            assert len(flipped[places == place].unique()) == 1
            seen[place] += flipped[places == place][0]
    assert ((seen[[1, 3, 7, 9]] > 15) & (seen[[1, 3, 7, 9]] < 45)).all()
    assert BatchAugment(AugmentOptions()).flip_places(images, places, seeded(0)) is images


@pytest.mark.gpu
def test_the_gpu_computes_the_same_night_and_sizes(images: Tensor) -> None:
    options = AugmentOptions(night=0.7, random_erasing=0.5, gamma=0.5, sharpness=1.0, multi_resolution=(0.5, 1.3))
    on_cpu = BatchAugment(options)(images, seeded(1)).float()
    on_gpu = BatchAugment(options)(images.cuda(), seeded(1)).cpu().float()
    assert on_cpu.shape == on_gpu.shape and (on_cpu - on_gpu).abs().mean() < 0.5
