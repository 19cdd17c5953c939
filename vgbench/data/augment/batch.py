"""What is done to a batch of training images on the device, in which order."""

from __future__ import annotations

import dataclasses

import torch
from torch import Generator, Tensor

from vgbench.data.augment.colour import change_tone, draw_colour, draw_tone, jitter_colour
from vgbench.data.augment.erasing import draw_boxes, erase
from vgbench.data.augment.geometry import draw_geometry, warp
from vgbench.data.augment.night import draw_night, to_night
from vgbench.data.augment.options import AugmentOptions
from vgbench.data.augment.rand_augment import apply_operations, draw_operations
from vgbench.data.triplets import TripletBatch

FLIP_PROBABILITY = 0.5


class BatchAugment:
    """Applies AugmentOptions to batches. Parameters are drawn on the CPU, so a seed means the same on every device."""

    def __init__(self, options: AugmentOptions) -> None:
        self.options = options

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Vary each image on its own.

        Colour comes first, then perspective, crop and rotation (Berton et al., 2022), then RandAugment, night and
        erasing.

        Args:
            images: uint8 [B,3,H,W], on any device.
            generator: on the CPU; equal states give equal results.

        Returns:
            uint8 [B,3,H,W].
        """
        options, count = self.options, len(images)
        if not options.changes_queries or not count:
            return images
        height, width = images.shape[2:]
        # These two are drawn whether used or not, so that a seed means what it meant before there were others.
        colours = draw_colour(options, count, generator)
        places = draw_geometry(options, count, height, width, generator)
        values = images.float() / 255
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


def _bytes(values: Tensor) -> Tensor:
    return (values * 255).round_().clamp_(0, 255).to(torch.uint8)
