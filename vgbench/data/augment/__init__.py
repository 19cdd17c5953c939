"""Random colour and geometry of training images: batched, on the device, with parameters of its own for each image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vgbench.data.triplets import TripletBatch
from vgbench.errors import UserError
from vgbench.options import option

PERSPECTIVE_PROBABILITY = 0.5
FLIP_PROBABILITY = 0.5
CROP_RATIO = (3 / 4, 4 / 3)
_CROP_TRIES = 10
_GRAY = (0.2989, 0.587, 0.114)  # ITU-R BT.601 luma


@dataclass(frozen=True)
class AugmentOptions:
    """How training queries are varied; 0 leaves a property alone (names and meaning of Berton et al., 2022)."""

    brightness: float = option(0.0, "queries' brightness is scaled by 1 - v to 1 + v")
    contrast: float = option(0.0, "queries' contrast is scaled by 1 - v to 1 + v")
    saturation: float = option(0.0, "queries' saturation is scaled by 1 - v to 1 + v")
    hue: float = option(0.0, "queries' hue is turned by -v to v, in turns of the colour circle, at most 0.5")
    rand_perspective: float = option(0.0, "distortion of queries' perspective, 0 to 1, applied to every second query")
    horizontal_flip: bool = option(False, "mirror every second triplet (query, positive and negatives together)")
    random_resized_crop: float = option(0.0, "queries are cropped to between 1 - v and all of their area")
    random_rotation: float = option(0.0, "queries are rotated by -v to v, degrees")

    def __post_init__(self) -> None:
        limits = {"hue": 0.5, "rand_perspective": 1.0, "random_rotation": 180.0}
        for name in ("brightness", "contrast", "saturation", *limits):
            value, limit = getattr(self, name), limits.get(name, math.inf)
            if not 0 <= value <= limit or math.isinf(value):
                raise UserError(
                    f"--{name} {value}: expected a number from 0" + (f" to {limit:g}" if name in limits else "")
                )
        if not 0 <= self.random_resized_crop < 1:
            raise UserError(f"--random_resized_crop {self.random_resized_crop}: expected a number from 0, below 1")

    @property
    def changes_queries(self) -> bool:
        """Whether queries are varied in any way but mirroring."""
        return any(v for k, v in dataclasses.asdict(self).items() if k != "horizontal_flip")


@dataclass(frozen=True, eq=False)
class ColourParameters:
    """What happens to the colours of B images.

    Attributes:
        factors: float32 [B,4], of brightness, contrast, saturation (1 = as it is) and hue (turns, 0 = as it is).
        order: int64 [B,4], in which order an image meets the four.
    """

    factors: Tensor
    order: Tensor


@dataclass(frozen=True, eq=False)
class GeometryParameters:
    """Where B images' pixels come from, as homographies from an output's pixels to its input's, float64 [B,3,3].

    Coordinates have x right and y down, in pixels from the image's top left corner (the first pixel's centre is at
    0.5). An output pixel goes through `rotation`, then `crop`, then `perspective`; what leaves the picture after
    the first or the last of them is black.
    """

    rotation: Tensor
    crop: Tensor
    perspective: Tensor


class BatchAugment:
    """Applies AugmentOptions to batches. Parameters are drawn on the CPU, so a seed means the same on every device."""

    def __init__(self, options: AugmentOptions) -> None:
        self.options = options

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Vary the colour and the geometry of each image on its own.

        The colour jitter comes first, then perspective, crop and rotation (Berton et al., 2022).

        Args:
            images: uint8 [B,3,H,W], on any device.
            generator: on the CPU; equal states give equal results.

        Returns:
            uint8 [B,3,H,W].
        """
        options = self.options
        if not options.changes_queries or not len(images):
            return images
        colours = draw_colour(options, len(images), generator)
        places = draw_geometry(options, len(images), images.shape[2], images.shape[3], generator)
        values = images.float() / 255
        if options.brightness or options.contrast or options.saturation or options.hue:
            values = jitter_colour(values, colours)
        if options.rand_perspective or options.random_resized_crop or options.random_rotation:
            values = warp(values, places)
        return (values * 255).round_().clamp_(0, 255).to(torch.uint8)

    def augment_queries(self, batch: TripletBatch, generator: Generator) -> TripletBatch:
        """Vary the queries of a batch and nothing else, as the field does."""
        if not self.options.changes_queries:
            return batch
        rows = batch.is_query.nonzero().squeeze(1)
        images = batch.images.index_copy(0, rows, self(batch.images[rows], generator))
        return dataclasses.replace(batch, images=images)

    def flip_triplets(self, batch: TripletBatch, generator: Generator) -> TripletBatch:
        """Mirror every triplet whole or not at all, with probability 1/2, if `horizontal_flip` is set.

        An image that is in a mirrored triplet and in another is there twice afterwards.
        """
        if not self.options.horizontal_flip:
            return batch
        flip = (torch.rand(len(batch), generator=generator) < FLIP_PROBABILITY).to(batch.images.device).long()
        wanted = torch.cat([batch.query[:, None], batch.positive[:, None], batch.negatives], 1)
        versions, index = torch.unique(2 * wanted + flip[:, None], return_inverse=True)
        source, mirrored = versions // 2, versions % 2 == 1
        images = batch.images[source]
        return TripletBatch(
            images=torch.where(mirrored[:, None, None, None], images.flip(-1), images),
            is_query=batch.is_query[source],
            query=index[:, 0].contiguous(),
            positive=index[:, 1].contiguous(),
            negatives=index[:, 2:].contiguous(),
        )

    def augment_triplets(self, batch: TripletBatch, generator: Generator) -> TripletBatch:
        """Vary the queries, then mirror triplets."""
        return self.flip_triplets(self.augment_queries(batch, generator), generator)


def draw_colour(options: AugmentOptions, count: int, generator: Generator) -> ColourParameters:
    """Draw factors from [max(0, 1 - v), 1 + v], hue turns from [-v, v], and orders, for `count` images."""
    spread = torch.tensor([options.brightness, options.contrast, options.saturation, options.hue])
    low = torch.tensor([1.0, 1.0, 1.0, 0.0]) - spread
    low[:3].clamp_(min=0)
    high = torch.tensor([1.0, 1.0, 1.0, 0.0]) + spread
    factors = low + (high - low) * torch.rand(count, 4, generator=generator)
    return ColourParameters(factors, torch.rand(count, 4, generator=generator).argsort(1))


def draw_geometry(
    options: AugmentOptions, count: int, height: int, width: int, generator: Generator
) -> GeometryParameters:
    """Draw a rotation, a crop and a perspective for each of `count` images of a height and width in pixels."""
    angles = (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1) * options.random_rotation
    boxes = draw_crops(options.random_resized_crop, count, height, width, generator)
    corners = draw_corners(options.rand_perspective, count, height, width, generator)
    return GeometryParameters(
        rotation=rotation_matrices(angles, height, width),
        crop=crop_matrices(boxes, height, width),
        perspective=perspective_matrices(corners, height, width),
    )


def draw_crops(most: float, count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Draw boxes of 1 - most to 1 of the area and an aspect ratio of 3:4 to 4:3; int64 [count,4] top, left, h, w.

    Of ten candidates an image the first that fits is taken, as the field does; if none fits, or `most` is 0, all of it.
    """
    shape = (count, _CROP_TRIES)
    area = height * width * (1 - most * torch.rand(shape, generator=generator, dtype=torch.float64))
    spread = torch.rand(shape, generator=generator, dtype=torch.float64)
    ratio = torch.exp(math.log(CROP_RATIO[0]) + spread * math.log(CROP_RATIO[1] / CROP_RATIO[0]))
    w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.long().argmax(1, keepdim=True)  # the first of equal values
    whole = ~fits.any(1) if most else torch.ones(count, dtype=torch.bool)
    h = torch.where(whole, height, h.gather(1, first)[:, 0])
    w = torch.where(whole, width, w.gather(1, first)[:, 0])
    place = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    top = (place[:, 0] * (height - h + 1)).long()
    left = (place[:, 1] * (width - w + 1)).long()
    return torch.stack([top, left, h, w], 1)


def draw_corners(distortion: float, count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Draw where the four corner pixels go: float64 [count,4,2], x and y, clockwise from the top left.

    Each moves inwards by up to `distortion` times half the width and height; every second image stays as it is.
    """
    reach = torch.tensor([int(distortion * (width // 2)) + 1, int(distortion * (height // 2)) + 1])
    moves = (torch.rand(count, 4, 2, generator=generator, dtype=torch.float64) * reach).floor()
    applied = torch.rand(count, generator=generator) < PERSPECTIVE_PROBABILITY
    inwards = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    return _corners(height, width) + moves * inwards * applied[:, None, None]


def rotation_matrices(angles: Tensor, height: int, width: int) -> Tensor:
    """Return output-to-input matrices [B,3,3] of counter-clockwise rotations about the centre by degrees [B]."""
    cos, sin = torch.cos(torch.deg2rad(angles)), torch.sin(torch.deg2rad(angles))
    x, y = width / 2, height / 2
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, zero, zero, one]
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def crop_matrices(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return matrices [B,3,3] that stretch boxes [B,4] (top, left, height, width in pixels) over the whole output."""
    top, left, h, w = boxes.double().unbind(1)
    zero, one = torch.zeros_like(h), torch.ones_like(h)
    return torch.stack([w / width, zero, left, zero, h / height, top, zero, zero, one], 1).reshape(-1, 3, 3)


def perspective_matrices(corners: Tensor, height: int, width: int) -> Tensor:
    """Return homographies [B,3,3] that take each moved corner [B,4,2] (x, y) back to the image's own corner.

    The eight unknowns of ((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1)) solve a linear
    system with two rows a corner.
    """
    x, y = corners.unbind(-1)
    u, v = _corners(height, width).expand_as(corners).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    of_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    of_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    solution = torch.linalg.solve(torch.cat([of_u, of_v], 1), torch.cat([u, v], 1))
    return torch.cat([solution, torch.ones_like(solution[:, :1])], 1).reshape(-1, 3, 3)


def _corners(height: int, width: int) -> Tensor:
    right, bottom = width - 1, height - 1
    return torch.tensor([[0, 0], [right, 0], [right, bottom], [0, bottom]], dtype=torch.float64)


def warp(images: Tensor, parameters: GeometryParameters) -> Tensor:
    """Rotate, crop and distort float [B,3,H,W] with one bilinear sampling; outside is 0."""
    count, _, height, width = images.shape
    device = images.device
    x = torch.arange(width, device=device, dtype=torch.float32) + 0.5
    y = torch.arange(height, device=device, dtype=torch.float32) + 0.5
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(height, width, device=device)], -1)
    size = torch.tensor([width, height], dtype=torch.float32, device=device)

    def mapped(homographies: Tensor) -> tuple[Tensor, Tensor]:
        points = pixels.reshape(1, -1, 3) @ homographies.float().to(device).transpose(1, 2)
        points = points[..., :2] / points[..., 2:]
        # Half a thousandth of a pixel of slack: an identity must not lose its border to rounding.
        inside = ((points >= -5e-4) & (points <= size + 5e-4)).all(-1)
        return points.reshape(count, height, width, 2), inside.reshape(count, 1, height, width)

    _, in_crop = mapped(parameters.rotation)
    points, in_image = mapped(parameters.perspective @ parameters.crop @ parameters.rotation)
    sampled = F.grid_sample(images, points * (2 / size) - 1, "bilinear", "border", align_corners=False)
    return sampled * (in_crop & in_image)


def jitter_colour(images: Tensor, parameters: ColourParameters) -> Tensor:
    """Change brightness, contrast, saturation and hue of float [B,3,H,W] in 0..1, each image in its own order."""
    operations: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (_brightness, _contrast, _saturation, _hue)
    images = images.clone()
    factors = parameters.factors.to(images.device)[:, :, None, None, None]
    for step in range(len(operations)):
        for index, operation in enumerate(operations):
            rows = (parameters.order[:, step] == index).nonzero().squeeze(1)
            rows = rows[parameters.factors[rows, index] != (index != 3)].to(images.device)
            if len(rows):
                images[rows] = operation(images[rows], factors[rows, index])
    return images


def _blend(images: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * other).clamp_(0, 1)


def _gray(images: Tensor) -> Tensor:
    return (images * images.new_tensor(_GRAY)[:, None, None]).sum(1, keepdim=True)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, 0.0, factor)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _gray(images).mean((2, 3), keepdim=True), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _gray(images), factor)


def _hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue in the HSV hexcone (Smith, 1978)."""
    red, green, blue = images.unbind(1)
    value, darkest = images.amax(1), images.amin(1)
    chroma = value - darkest
    divisor = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths = (sixths + 6 * turns[:, 0]) % 6
    # Each channel falls from `value` by as much of the chroma as the hue is away from its own.
    place = (sixths[:, None] + images.new_tensor([5.0, 3.0, 1.0])[:, None, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(place, 4 - place).clamp(0, 1)
