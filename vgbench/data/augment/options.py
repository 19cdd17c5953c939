"""What a user can set about the pixels of training images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vgbench.errors import UserError
from vgbench.options import option

# Magnitudes of RandAugment's operations are given on a scale of 31 steps.
RAND_AUGMENT_STEPS = 31

_LIMITS = {
    "brightness": math.inf,
    "contrast": math.inf,
    "saturation": math.inf,
    "hue": 0.5,
    "sharpness": math.inf,
    "gamma": 10.0,
    "gain": 10.0,
    "rand_perspective": 1.0,
    "random_rotation": 180.0,
    "random_erasing": 1.0,
    "translated_probability": 1.0,
    "fda_beta": 0.5,
    "fda_probability": 1.0,
    "night": 1.0,
    "night_sky": 1.0,
    "night_tint": 2.0,
    "night_noise": 10.0,
    "night_gamma": 10.0,
    "night_blur": 10.0,
    "night_gray": 1.0,
}

_fda = partial(option, needs="fda_folder")
_night = partial(option, needs="night")


@dataclass(frozen=True)
class AugmentOptions:
    """How training images are varied: queries only with triplets, else every image on its own; 0 is off.

    Names and meaning of the first eight are of Berton et al., 2022.

    Raises:
        UserError: a value is out of its range.
    """

    brightness: float = option(0.0, "brightness is scaled by 1 - v to 1 + v")
    contrast: float = option(0.0, "contrast is scaled by 1 - v to 1 + v")
    saturation: float = option(0.0, "saturation is scaled by 1 - v to 1 + v")
    hue: float = option(0.0, "hue is turned by -v to v, in turns of the colour circle, at most 0.5")
    rand_perspective: float = option(0.0, "distortion of perspective, 0 to 1, applied to every second image")
    horizontal_flip: bool = option(False, "mirror every second triplet or place (all its images together)")
    random_resized_crop: float = option(0.0, "images are cropped to between 1 - v and all of their area")
    random_rotation: float = option(0.0, "images are rotated by -v to v, degrees")
    sharpness: float = option(0.0, "sharpness is scaled by 1 - v (smoother) to 1 + v (sharper)")
    gamma: float = option(0.0, "values in 0..1 are raised to a power of 1 / (1 + v) to 1 + v")
    gain: float = option(0.0, "exposure is changed by -v to v stops, that is by factors of 2")
    rand_augment: tuple[int, int] = option(
        (0, 9), "RandAugment (Cubuk et al., 2020): operations an image (0: off) and their magnitude, 0 to 30"
    )
    random_erasing: float = option(0.0, "part of the images in which a rectangle is erased (Zhong et al., 2020), 0..1")
    erasing_area: tuple[float, float] = option(
        (0.02, 0.33), "smallest and largest erased rectangle, of the image's 1", needs="random_erasing"
    )
    multi_resolution: tuple[float, ...] = option(
        (1.0,), "each training batch, whole, is resized to one of these multiples of --resize, drawn for each step"
    )
    translated_folder: Path | None = option(
        None, "translated versions of training images: a folder like the train split's, with queries/ and database/"
    )
    translated_probability: float = option(
        0.5, "how often a training image is replaced by its translated version", needs="translated_folder"
    )
    fda_folder: Path | None = option(
        None, "Fourier domain adaptation (Yang and Soatto, 2020) to the unlabelled images below this folder"
    )
    fda_beta: float = _fda(0.01, "half the band of exchanged frequencies, of the image's shorter side, 0 to 0.5")
    fda_probability: float = _fda(0.5, "part of the images that take a target image's amplitude")
    fda_images: int = _fda(1000, "target images at most, evenly spread over the folder")
    night: float = option(0.0, "part of the images that are made to look like taken at night, 0 to 1")
    night_exposure: tuple[float, float] = _night(
        (0.1, 0.45), "darkest and brightest mean of night images, of white's 1"
    )
    night_ambient: tuple[float, float] = _night(
        (0.02, 0.3), "least and most light away from lamps, of a lamp's light 1"
    )
    night_lights: int = _night(10, "lamps and lit windows in a night image, at most")
    night_sky: float = _night(0.95, "most light that the sky loses at night, 0 (none) to 1 (all)")
    night_tint: float = _night(0.35, "most colour cast of night images and their lamps, in stops of red against blue")
    night_noise: float = _night(0.45, "most sensor noise of night images: standard deviation, of their mean light")
    night_gamma: float = _night(0.4, "night images' tone curve is bent by a power of 1 / (1 + v) to 1 + v")
    night_blur: float = _night(0.3, "most blur of night images: standard deviation, per cent of the image's height")
    night_gray: float = _night(0.3, "part of the night images without colour, as cameras for low light take them")

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value <= limit or math.isinf(value):
                to = "" if math.isinf(limit) else f" to {limit:g}"
                raise UserError(f"--{name} {value}: out of range. Expected a number from 0{to}")
        if not 0 <= self.random_resized_crop < 1:
            raise UserError(f"--random_resized_crop {self.random_resized_crop}: expected a number from 0, below 1")
        for name, least in (("night_lights", 0), ("fda_images", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}: too small. Expected {least} or more")
        scales = self.multi_resolution
        if not scales or not all(0 < scale <= 4 for scale in scales):
            raise UserError(f"--multi_resolution {' '.join(map(str, scales))}: expected numbers above 0, 4 at most")
        operations, magnitude = self.rand_augment
        if operations < 0 or not 0 <= magnitude < RAND_AUGMENT_STEPS:
            raise UserError(
                f"--rand_augment {operations} {magnitude}: out of range. Expected a number of operations from 0 "
                f"and a magnitude from 0 to {RAND_AUGMENT_STEPS - 1}"
            )
        for name in ("erasing_area", "night_exposure", "night_ambient"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise UserError(f"--{name} {low} {high}: expected two numbers above 0, the larger second, at most 1")

    @property
    def changes_tone(self) -> bool:
        """Whether sharpness, gamma or gain vary."""
        return bool(self.sharpness or self.gamma or self.gain)

    @property
    def adapts(self) -> bool:
        """Whether images take target images' amplitudes."""
        return self.fda_folder is not None and self.fda_probability > 0

    @property
    def changes_queries(self) -> bool:
        """Whether images are varied, each on its own: in any way but mirroring and resizing."""
        plain = ("brightness", "contrast", "saturation", "hue", "rand_perspective", "random_resized_crop")
        switches = (*plain, "random_rotation", "random_erasing", "night")
        return bool(
            any(getattr(self, name) for name in switches) or self.changes_tone or self.rand_augment[0] or self.adapts
        )
