"""What a test method is: how one query becomes the images that are described, and how their predictions become one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from vgbench.retrieval.predictions import Predictions

Size = tuple[int, int]  # height and width, pixels


class QueryMethod:
    """One image per query, resized to exactly --resize; the others override what they do differently.

    Attributes:
        described: how many descriptors are stored, and searched with, a query. Where it is 1 and `views` gives several
            images, their descriptors are averaged and normalised again.
        keeps_ratio: whether `frame` depends on the image's own height and width.
        of_database: whether database images are described in the same way; else they are resized to exactly --resize.
        filtered: whether images are resized bilinearly with a low-pass filter, or by their nearest pixels.
        keywords: what `--test_method_args` said, which the fingerprint of descriptors has to know.
    """

    described = 1
    keeps_ratio = False
    of_database = False
    filtered = True
    keywords: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, majority_weight: float = 0.01) -> None:
        """`majority_weight`: what a crop's vote takes off a squared distance (maj_voting)."""
        self.majority_weight = majority_weight

    def frame(self, image: Size, size: Size) -> Size:
        """Return the height and width that an image of height and width `image` is resized to."""
        return size

    def views(self, images: Tensor, size: Size) -> list[Tensor]:
        """Cut images [B,3,H,W] that have been resized to `frame` into the parts that are described, all of one size."""
        return [images]

    def merge(self, predictions: Predictions) -> Predictions:
        """Turn the predictions of Q*described descriptors, a query's own in a row, into [Q,K]."""
        return predictions


def shorter_side(image: Size, side: int) -> Size:
    """Return the size at which an image's shorter side is `side` and its ratio is kept (rounded down, as the field)."""
    height, width = image
    return (side, side * width // height) if height <= width else (side * height // width, side)


def window(images: Tensor, top: int, left: int, size: Size) -> Tensor:
    """Cut one window out of images [B,3,H,W]."""
    return images[:, :, top : top + size[0], left : left + size[1]]


def centred(images: Tensor, size: Size) -> Tensor:
    """Cut the middle out of images [B,3,H,W]; half pixels to even, as torchvision's crop does."""
    top, left = (round((have - want) / 2) for have, want in zip(images.shape[2:], size, strict=True))
    return window(images, top, left, size)
