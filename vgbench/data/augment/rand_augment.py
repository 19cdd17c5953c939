"""RandAugment (Cubuk et al., 2020): a few of fourteen operations, all of one magnitude, in random order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from vgbench.data.augment.options import RAND_AUGMENT_STEPS, AugmentOptions

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
_SIGNED = frozenset(OPERATIONS[1:10])


def draw_operations(options: AugmentOptions, count: int, generator: Generator) -> Tensor:
    """Draw what is done to each image: int64 [count,N,2], index in OPERATIONS and sign (-1 or 1)."""
    shape = (count, options.rand_augment[0])
    which = torch.randint(len(OPERATIONS), shape, generator=generator)
    sign = 2 * torch.randint(2, shape, generator=generator) - 1
    signed = torch.tensor([name in _SIGNED for name in OPERATIONS])[which]
    return torch.stack([which, torch.where(signed, sign, 1)], -1)


def apply_operations(images: Tensor, drawn: Tensor, magnitude: int) -> Tensor:
    """Apply operations to uint8 [B,3,H,W]: one batched call for each distinct operation and sign of a step.

    Args:
        images: uint8 [B,3,H,W], on any device.
        drawn: of `draw_operations`.
        magnitude: 0 to 30.
    """
    images = images.clone()
    for step in drawn.unbind(1):
        for which, sign in torch.unique(step, dim=0).tolist():
            if OPERATIONS[which] == "identity":
                continue
            rows = ((step[:, 0] == which) & (step[:, 1] == sign)).nonzero().squeeze(1).to(images.device)
            images[rows] = _operation(OPERATIONS[which], sign * magnitude / (RAND_AUGMENT_STEPS - 1))(images[rows])
    return images


def _operation(name: str, level: float) -> Callable[[Tensor], Tensor]:
    """Return one operation at a level of -1 to 1; ranges are those of the paper's released code."""
    from torchvision.transforms.v2 import functional as tv

    def affine(x: float = 0, y: float = 0, shear_x: float = 0, shear_y: float = 0) -> Callable[[Tensor], Tensor]:
        shear = [float(torch.rad2deg(torch.tensor(value).atan())) for value in (shear_x, shear_y)]
        centre = [0.0, 0.0] if shear_x or shear_y else None
        bilinear = tv.InterpolationMode.BILINEAR

        def move(images: Tensor) -> Tensor:
            shift = [int(x * images.shape[-1]), int(y * images.shape[-2])]
            moved: Tensor = tv.affine(
                images, angle=0.0, translate=shift, scale=1.0, shear=shear, interpolation=bilinear, center=centre
            )
            return moved

        return move

    def factor(change: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda images: change(images, 1 + 0.9 * level)

    operations: dict[str, Callable[[Tensor], Tensor]] = {
        "shear_x": affine(shear_x=0.3 * level),
        "shear_y": affine(shear_y=0.3 * level),
        "translate_x": affine(x=150 / 331 * level),
        "translate_y": affine(y=150 / 331 * level),
        "rotate": lambda images: tv.rotate(images, 30 * level, interpolation=tv.InterpolationMode.BILINEAR),
        "brightness": factor(tv.adjust_brightness),
        "colour": factor(tv.adjust_saturation),
        "contrast": factor(tv.adjust_contrast),
        "sharpness": factor(tv.adjust_sharpness),
        "posterize": lambda images: tv.posterize(images, 8 - round(4 * level)),
        "solarize": lambda images: tv.solarize(images, 255 * (1 - level)),
        "autocontrast": tv.autocontrast,
        "equalize": tv.equalize,
    }
    return operations[name]
