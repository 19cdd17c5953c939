"""RandAugment beside torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

from vgbench.data import augment
from vgbench.data.augment import AugmentOptions
from vgbench.data.augment.rand_augment import OPERATIONS

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
