"""Views: the scales and parts of an image that are described, and how their descriptors become the stored ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.data.decode import decode_image, resize_images
from vgbench.errors import UserError
from vgbench.models.network import Network
from vgbench.randomness import numpy_stream
from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.options import ViewOptions
from vgbench.retrieval.query_methods import QUERY_METHODS
from vgbench.retrieval.query_methods.base import QueryMethod, Size, window
from vgbench.retrieval.query_methods.hard_resize import HardResize

_SIZES = {
    "down": ((480, 640), (400, 534), (343, 458), (332, 427)),
    "up": ((480, 640), (576, 768), (672, 896), (720, 960)),
}
_CROPS, _CROP_SIZE = 5, (320, 430)
_GEM_P = 3


@dataclass(frozen=True)
class Views:
    """What becomes of each image of a table between its file and its stored descriptors.

    Attributes:
        method: the parts of an image (the database's is HardResize, or the queries' where that is for both).
        sizes: height and width in pixels, one per scale.
        pooling: how the scales' descriptors become one: "mean", "max", "gem" or "concat".
        windows: None, or height and width in pixels of the random crops that stand in for scales.
        multiple: the network takes sides that are multiples of this many pixels.
    """

    method: QueryMethod
    sizes: tuple[Size, ...]
    pooling: str = "mean"
    windows: Size | None = None
    multiple: int = 1

    @property
    def plain(self) -> bool:
        """Whether an image is described whole, once, at one size: what training does too."""
        return type(self.method) is HardResize and len(self.sizes) == 1 and self.windows is None

    @property
    def described(self) -> int:
        """Descriptors an image."""
        return self.method.described

    def dim(self, dim: int) -> int:
        """Return the dimensions of a stored descriptor, given those of the network's."""
        return dim * self._variants if self.pooling == "concat" else dim

    @property
    def _variants(self) -> int:
        return _CROPS if self.windows else len(self.sizes)

    def facts(self) -> dict[str, Any]:
        """Return everything that determines the descriptors, as JSON values for a fingerprint."""
        method = type(self.method)
        keywords = {"keywords": {key: str(value) for key, value in self.method.keywords.items()}}
        return {
            **(keywords if self.method.keywords else {}),
            "method": f"{method.__module__}:{method.__qualname__}",
            "sizes": self.sizes,
            "pooling": self.pooling if self._variants > 1 else None,
            "windows": self.windows,
            "multiple": self.multiple,
        }

    @property
    def largest(self) -> Size:
        """The size of the largest scale."""
        return max(self.sizes, key=math.prod)

    def decoded(self, image: Size) -> Size:
        """Return the height and width that an image of height and width `image` is decoded to: the largest scale's."""
        return self._fit(self.method.frame(image, self.largest))

    def decode(self, path: Path, frame: Size, *, upright: bool = False) -> Tensor:
        """Read an image file at the size `frame` that `decoded` gave for it: uint8 [3,H,W]."""
        if self.method.filtered:
            return decode_image(path, frame, upright=upright)
        return self.resize(decode_image(path, None, upright=upright)[None], frame)[0]

    def resize(self, images: Tensor, size: Size) -> Tensor:
        """Resize uint8 [B,3,H,W] to `size`, as the test method wants it."""
        return resize_images(images, size) if self.method.filtered else F.interpolate(images, size=size)

    def averaged(self, stored: Descriptors) -> Descriptors:
        """Return one descriptor an image, L2-normalised, for what compares images: the stored ones or their mean."""
        if self.described == 1:
            return stored
        each = stored.read().float().view(-1, self.described, stored.shape[1])
        mean = F.normalize(each.mean(1), dim=1)
        return InMemory(mean, stored.path, f"{stored.fingerprint}-mean")

    def describe(self, infer: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Describe images uint8 [B,3,H,W] on the device that were decoded to `decoded`.

        Args:
            infer: the network: images to descriptors [B,D].

        Returns:
            float32 [B*described, dim(D)], an image's own in a row.

        Raises:
            UserError: an image is smaller than a window.
        """
        image = (images.shape[2], images.shape[3])
        scales = []  # each [V,B,D]
        for size in self.sizes:
            frame = image if size == self.largest else self._fit(self.method.frame(image, size))
            resized = images if frame == image else self.resize(images, frame)
            parts = [self._aligned(part) for part in self.method.views(resized, size)]
            variants = self._windows_of(parts) if self.windows else [parts]
            scales += [torch.stack([infer(part) for part in variant]) for variant in variants]
        pooled = pool(scales, self.pooling)
        if self.described == 1 and len(pooled) > 1:
            pooled = F.normalize(pooled.mean(0, keepdim=True), dim=-1)
        return pooled.transpose(0, 1).flatten(0, 1)

    def _windows_of(self, parts: Sequence[Tensor]) -> list[list[Tensor]]:
        """Cut the same windows out of each part: [windows][parts]."""
        height, width = parts[0].shape[2:]
        assert self.windows is not None
        size = self._fit(self.windows)
        if height < size[0] or width < size[1]:
            raise UserError(
                f"--multi_scale random_crop: an image of {height}x{width} has no window of {size[0]}x{size[1]}. "
                "Expected larger images; use a larger --resize"
            )
        shares = numpy_stream(0, "views", "random_crop").random((_CROPS, 2))
        corners = [(int(y * (height - size[0] + 1)), int(x * (width - size[1] + 1))) for y, x in shares]
        return [[window(part, top, left, size) for part in parts] for top, left in corners]

    def _aligned(self, part: Tensor) -> Tensor:
        """Bring parts whose sides the network does not take to the nearest that it does."""
        size = (part.shape[2], part.shape[3])
        wanted = self._fit(size)
        return part if wanted == size else self.resize(part, wanted)

    def _fit(self, size: Size) -> Size:
        """Round to the network's multiple; a scale's own size is fit, or what the user asked for."""
        return size if size in self.sizes else rounded(size, self.multiple)


def pool(scales: Sequence[Tensor], pooling: str) -> Tensor:
    """Make one L2-normalised descriptor of those of several scales, each [...,D]; one alone is left as it is."""
    if len(scales) == 1:
        return scales[0]
    if pooling == "concat":
        return F.normalize(torch.cat(list(scales), dim=-1), dim=-1)
    stacked = torch.stack(list(scales))
    if pooling == "max":
        pooled = stacked.amax(0)
    elif pooling == "gem":
        # The power mean that keeps signs: that of GeM where nothing is negative.
        powered = (stacked.abs() ** _GEM_P * stacked.sign()).mean(0)
        pooled = powered.abs() ** (1 / _GEM_P) * powered.sign()
    else:
        pooled = stacked.mean(0)
    return F.normalize(pooled, dim=-1)


def views_of(options: ViewOptions, network: Network, size: Size) -> tuple[Views, Views]:
    """Return the views of database images and those of queries.

    Args:
        size: --resize, height and width in pixels.

    Raises:
        UserError: an unknown test method, or images that are smaller than the windows of random_crop.
    """
    multiple = network.backbone.multiple
    windows = _CROP_SIZE if options.multi_scale == "random_crop" else None
    if windows and (size[0] < windows[0] or size[1] < windows[1]):
        raise UserError(
            f"--multi_scale random_crop: --resize {size[0]} {size[1]} has no window of {windows[0]}x{windows[1]}. "
            "Expected larger images; use --resize 480 640"
        )
    sizes: tuple[Size, ...] = _SIZES.get(options.multi_scale or "", ())
    sizes = sizes or tuple((max(1, round(s * size[0])), max(1, round(s * size[1]))) for s in options.scales)
    method = _method_of(options)
    sizes = tuple(one if one == size else rounded(one, multiple) for one in sizes)
    database = Views(method if method.of_database else HardResize(), sizes, options.scale_pooling, windows, multiple)
    return database, Views(method, sizes, options.scale_pooling, windows, multiple)


def _method_of(options: ViewOptions) -> QueryMethod:
    name = options.test_method
    keywords = QUERY_METHODS.keywords("test_method", name, options.test_method_args)
    try:
        method: QueryMethod = QUERY_METHODS.resolve(name)(majority_weight=options.majority_weight, **keywords)
    except TypeError as error:
        raise UserError(
            f"--test_method {name}: {error}. Expected a class made as Class(majority_weight=0.01, its own keywords)"
        ) from error
    method.keywords = keywords
    return method


def rounded(size: Size, multiple: int) -> Size:
    """Return the nearest size whose sides are multiples of `multiple`."""
    height, width = (max(1, round(side / multiple)) * multiple for side in size)
    return height, width
