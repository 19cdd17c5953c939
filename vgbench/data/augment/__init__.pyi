from .batch import FLIP_PROBABILITY, BatchAugment, resize_batch
from .colour import (
    ColourParameters,
    ToneParameters,
    change_tone,
    draw_colour,
    draw_tone,
    jitter_colour,
)
from .erasing import draw_boxes, erase
from .fourier import TargetStyles, band_of, draw_styles, exchange_amplitude, low_frequencies
from .geometry import (
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
from .night import NightParameters, draw_night, to_night
from .options import AugmentOptions
from .rand_augment import apply_operations, draw_operations

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
