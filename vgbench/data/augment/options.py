"""What a user can set about the pixels of training images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.options import IN_ORDER, Options, above, at_least, between, option

# Magnitudes of RandAugment's operations are given on a scale of 31 steps.
RAND_AUGMENT_STEPS = 31

_ANY, _PART = at_least(0), between(0, 1)
_PARTS = above(0, at_most=1)


@dataclass(frozen=True)
class ColourOptions(Options, topic="augmentation"):
    """How the colours, the shape and the detail of single images are varied."""

    brightness: float = option(0.0, "brightness is scaled by 1 - v to 1 + v", range=_ANY)
    contrast: float = option(0.0, "contrast is scaled by 1 - v to 1 + v", range=_ANY)
    saturation: float = option(0.0, "saturation is scaled by 1 - v to 1 + v", range=_ANY)
    hue: float = option(
        0.0, "hue is turned by -v to v, in turns of the colour circle, at most 0.5", range=between(0, 0.5)
    )
    rand_perspective: float = option(
        0.0, "distortion of perspective, 0 to 1, applied to every second image", range=_PART
    )
    random_resized_crop: float = option(
        0.0, "images are cropped to between 1 - v and all of their area", range=at_least(0, below=1)
    )
    random_rotation: float = option(0.0, "images are rotated by -v to v, degrees", range=between(0, 180))
    sharpness: float = option(0.0, "sharpness is scaled by 1 - v (smoother) to 1 + v (sharper)", range=_ANY)
    gamma: float = option(0.0, "values in 0..1 are raised to a power of 1 / (1 + v) to 1 + v", range=between(0, 10))
    gain: float = option(0.0, "exposure is changed by -v to v stops, that is by factors of 2", range=between(0, 10))
    rand_augment: tuple[int, int] = option(
        (0, 9),
        "RandAugment (Cubuk et al., 2020): operations for each image (0: off) and their magnitude, 0 to 30",
        range=(_ANY, between(0, RAND_AUGMENT_STEPS - 1)),
        metavar="N MAGNITUDE",
    )
    random_erasing: float = option(
        0.0, "part of the images in which a rectangle is erased (Zhong et al., 2020), 0 to 1", range=_PART
    )
    erasing_area: tuple[float, float] = option(
        (0.02, 0.33), "smallest and largest erased rectangle, as parts of the image", range=_PARTS, together=IN_ORDER,
        needs="random_erasing", metavar="LOW HIGH",
    )  # fmt: skip


@dataclass(frozen=True)
class BatchOptions(Options, topic="augmentation"):
    """What is done to whole triplets, places and batches."""

    horizontal_flip: bool = option(False, "mirror every second triplet or place (all its images together)")
    multi_resolution: tuple[float, ...] = option(
        (1.0,),
        "each training batch, whole, is resized to one of these multiples of --resize, drawn for each step",
        range=above(0, at_most=4),
    )


@dataclass(frozen=True)
class TranslatedOptions(Options, topic="augmentation", needs="translated_folder"):
    """Training images that are replaced by translated versions of them."""

    translated_folder: Path | None = option(
        None, "translated versions of training images: a folder like the train split's, with queries/ and database/"
    )
    translated_probability: float = option(
        0.5, "how often a training image is replaced by its translated version", range=_PART
    )


@dataclass(frozen=True)
class FourierOptions(Options, topic="augmentation", needs="fda_folder"):
    """Fourier domain adaptation (Yang and Soatto, 2020)."""

    fda_folder: Path | None = option(
        None, "Fourier domain adaptation (Yang and Soatto, 2020) to the unlabelled images below this folder"
    )
    fda_beta: float = option(
        0.01, "half the band of exchanged frequencies, as part of the image's shorter side", range=between(0, 0.5)
    )
    fda_probability: float = option(0.5, "part of the images that take a target image's amplitude", range=_PART)
    fda_images: int = option(1000, "target images at most, evenly spread over the folder", range=at_least(1))


@dataclass(frozen=True)
class NightOptions(Options, topic="augmentation", needs="night"):
    """Images that are made to look like taken at night."""

    night: float = option(
        0.0, "part of the images that are made to look like taken at night, 0 to 1", range=_PART, common=True
    )
    night_exposure: tuple[float, float] = option(
        (0.1, 0.45), "darkest and brightest mean of night images, white is 1", range=_PARTS, together=IN_ORDER,
        metavar="LOW HIGH",
    )  # fmt: skip
    night_ambient: tuple[float, float] = option(
        (0.02, 0.3), "least and most light away from lamps, the light of a lamp is 1", range=_PARTS, together=IN_ORDER,
        metavar="LOW HIGH",
    )  # fmt: skip
    night_lights: int = option(10, "lamps and lit windows in a night image, at most", range=_ANY)
    night_sky: float = option(0.95, "most light that the sky loses at night, 0 (none) to 1 (all)", range=_PART)
    night_tint: float = option(
        0.35, "most colour cast of night images and their lamps, in stops of red against blue", range=between(0, 2)
    )
    night_noise: float = option(
        0.45, "most sensor noise of night images: standard deviation, of their mean light", range=between(0, 10)
    )
    night_gamma: float = option(
        0.4, "night images' tone curve is bent by a power of 1 / (1 + v) to 1 + v", range=between(0, 10)
    )
    night_blur: float = option(
        0.3, "most blur of night images: standard deviation, per cent of the image's height", range=between(0, 10)
    )
    night_gray: float = option(
        0.3, "part of the night images without colour, as cameras for low light take them", range=_PART
    )


@dataclass(frozen=True)
class AugmentOptions(
    NightOptions, FourierOptions, TranslatedOptions, BatchOptions, ColourOptions, topic="augmentation"
):
    """How training images are varied: queries only with triplets, else every image on its own; 0 is off.

    Names and meaning of the first eight are of Berton et al., 2022.

    Raises:
        UserError: a value is out of its range.
    """

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
