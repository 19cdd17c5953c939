"""Erased rectangles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vgbench.data import augment
from vgbench.data.augment import AugmentOptions

COUNT, HEIGHT, WIDTH = 14, 37, 50


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(20, 230, (COUNT, 3, HEIGHT, WIDTH), generator=seeded(0), dtype=torch.uint8)


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
