"""Random changes of training images: batched, on the device, with parameters of its own for each image."""

from vgbench.data.augment.batch import FLIP_PROBABILITY, BatchAugment, resize_batch
from vgbench.data.augment.colour import (
    ColourParameters,
    ToneParameters,
    change_tone,
    draw_colour,
    draw_tone,
    jitter_colour,
)
from vgbench.data.augment.erasing import draw_boxes, erase
from vgbench.data.augment.fourier import TargetStyles, band_of, draw_styles, exchange_amplitude, low_frequencies
from vgbench.data.augment.geometry import (
    CROP_RATIO,
    PERSPECTIVE_PROBABILITY,
    GeometryParameters,
    crop_matrices,
    draw_corners,
    draw_crops,
    draw_geometry,
    perspective_matrices,
    rotation_matrices,
    warp,
)
from vgbench.data.augment.night import NightParameters, draw_night, to_night
from vgbench.data.augment.options import AugmentOptions
from vgbench.data.augment.rand_augment import apply_operations, draw_operations

__all__ = [
    "CROP_RATIO",
    "FLIP_PROBABILITY",
    "PERSPECTIVE_PROBABILITY",
    "AugmentOptions",
    "BatchAugment",
    "ColourParameters",
    "GeometryParameters",
    "NightParameters",
    "TargetStyles",
    "ToneParameters",
    "apply_operations",
    "band_of",
    "change_tone",
    "crop_matrices",
    "draw_boxes",
    "draw_colour",
    "draw_corners",
    "draw_crops",
    "draw_geometry",
    "draw_night",
    "draw_operations",
    "draw_styles",
    "draw_tone",
    "erase",
    "exchange_amplitude",
    "jitter_colour",
    "low_frequencies",
    "perspective_matrices",
    "resize_batch",
    "rotation_matrices",
    "to_night",
    "warp",
]
