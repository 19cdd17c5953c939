"""What is done to a batch of training images on the device, in which order."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vgbench.data.augment.colour import change_tone, draw_colour, draw_tone, jitter_colour
from vgbench.data.augment.erasing import draw_boxes, erase
from vgbench.data.augment.fourier import TargetStyles, draw_styles, exchange_amplitude
from vgbench.data.augment.geometry import draw_geometry, warp
from vgbench.data.augment.night import draw_night, to_night
from vgbench.data.augment.options import AugmentOptions
from vgbench.data.augment.rand_augment import apply_operations, draw_operations
from vgbench.data.decode import resize_images
from vgbench.data.triplets import TripletBatch

FLIP_PROBABILITY = 0.5


class BatchAugment:
    """Applies AugmentOptions to batches. Parameters are drawn on the CPU, so a seed means the same on every device.

    Args:
        options: what to do.
        multiple: pixels that the sides of resized batches (`multi_resolution`) are a multiple of: a network's stride
            or patch. May be set later.

    Raises:
        UserError: `fda_folder` is missing or has no readable image.
    """

    def __init__(self, options: AugmentOptions, multiple: int = 32) -> None:
        self.options, self.multiple = options, multiple
        self._varies = options.changes_queries
        self.targets: TargetStyles | None = None
        if options.adapts and options.fda_folder is not None:
            self.targets = TargetStyles(options.fda_folder, options.fda_beta, options.fda_images)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Vary each image of uint8 [B,3,H,W] on its own, then resize the batch: uint8 [B,3,H',W']; see `vary`."""
        return self.resize(self.vary(images, generator), generator)

    def vary(self, images: Tensor, generator: Generator) -> Tensor:
        """Vary each image on its own.

        A target's amplitude comes first, then colour, then perspective, crop and rotation (the order of Berton et
        al., 2022), then RandAugment, night and erasing.

        Args:
            images: uint8 [B,3,H,W], on any device.
            generator: on the CPU; equal states give equal results.

        Returns:
            uint8 [B,3,H,W].
        """
        options, count = self.options, len(images)
        if not self._varies or not count:
            return images
        height, width = images.shape[2:]
        # These two are drawn whether used or not, so that a seed means what it meant before there were others.
        colours = draw_colour(options, count, generator)
        places = draw_geometry(options, count, height, width, generator)
        values = images.float() / 255
        if self.targets is not None:
            styles = draw_styles(options.fda_probability, len(self.targets), count, generator)
            values = exchange_amplitude(values, styles, self.targets.amplitudes((height, width), images.device))
        if options.brightness or options.contrast or options.saturation or options.hue:
            values = jitter_colour(values, colours)
        if options.changes_tone:
            values = change_tone(values, draw_tone(options, count, generator))
        if options.rand_perspective or options.random_resized_crop or options.random_rotation:
            values = warp(values, places)
        if options.rand_augment[0]:
            drawn = draw_operations(options, count, generator)
            values = apply_operations(_bytes(values), drawn, options.rand_augment[1]).float() / 255
        if options.night:
            values = to_night(values, draw_night(options, count, generator))
        if options.random_erasing:
            values = erase(values, draw_boxes(options, count, height, width, generator))
        return _bytes(values)

    def resize(self, images: Tensor, generator: Generator) -> Tensor:
        """Bring uint8 [B,3,H,W] to one of the sizes of `multi_resolution`, drawn from the generator.

        At 1 the size stays as it is; else height and width are rounded to `multiple`. Bilinear, with a low-pass filter.
        """
        scales = self.options.multi_resolution
        scale = scales[int(torch.randint(len(scales), (), generator=generator))] if len(scales) > 1 else scales[0]
        if scale == 1:
            return images
        height, width = (max(1, round(side * scale / self.multiple)) * self.multiple for side in images.shape[2:])
        return resize_batch(images, (height, width))

    def augment_queries(self, batch: TripletBatch, generator: Generator) -> TripletBatch:
        """Vary the queries of a batch and nothing else, as the field does."""
        if not self._varies:
            return batch
        rows = batch.is_query.nonzero().squeeze(1)
        images = batch.images.index_copy(0, rows, self.vary(batch.images[rows], generator))
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
        units = batch.units[source]  # a sequence is mirrored whole
        mask = mirrored.reshape(-1, *[1] * (units.dim() - 1))
        return dataclasses.replace(
            batch,
            images=torch.where(mask, units.flip(-1), units).reshape(-1, *batch.images.shape[1:]),
            is_query=batch.is_query.reshape(len(batch.units), -1)[source].reshape(-1),
            query=index[:, 0].contiguous(),
            positive=index[:, 1].contiguous(),
            negatives=index[:, 2:].contiguous(),
        )

    def flip_places(self, images: Tensor, places: Tensor, generator: Generator) -> Tensor:
        """Mirror all images of a place or none, with probability 1/2, if `horizontal_flip` is set.

        Args:
            images: uint8 [B,3,H,W], on any device.
            places: int64 [B], which place each image shows.
            generator: on the CPU.

        Returns:
            uint8 [B,3,H,W].
        """
        if not self.options.horizontal_flip or not len(images):
            return images
        known, index = torch.unique(places.cpu(), return_inverse=True)
        flip = (torch.rand(len(known), generator=generator) < FLIP_PROBABILITY)[index].to(images.device)
        return torch.where(flip[:, None, None, None], images.flip(-1), images)

    def augment_places(self, images: Tensor, places: Tensor, generator: Generator) -> Tensor:
        """Mirror places, then vary each image and resize the batch, uint8 [B,3,H,W]; arguments as `flip_places`."""
        return self(self.flip_places(images, places, generator), generator)

    def augment_triplets(self, batch: TripletBatch, generator: Generator) -> TripletBatch:
        """Vary the queries, then mirror triplets, then resize the batch."""
        batch = self.flip_triplets(self.augment_queries(batch, generator), generator)
        return dataclasses.replace(batch, images=self.resize(batch.images, generator))


def resize_batch(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 [B,3,H,W] to (height, width), bilinearly with a low-pass filter, on any device."""
    if images.device.type == "cpu":
        return resize_images(images, size)
    # Only CPUs have this for uint8.
    return _bytes(F.interpolate(images.float() / 255, size, mode="bilinear", antialias=True))


def _bytes(values: Tensor) -> Tensor:
    return (values * 255).round_().clamp_(0, 255).to(torch.uint8)
