"""Draws and writes a tiny dataset in the folder protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

PLACES = 8
METRES_BETWEEN_PLACES = 40


def _image(place: int, view: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture that shows which place it is: a coarse pattern of the place, a little noise of the view."""
    pattern = np.random.default_rng(place).integers(40, 215, (6, 6, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(pattern).resize(size, Image.Resampling.BILINEAR)).astype(np.int16)
    noise = np.random.default_rng(1000 + 100 * place + view).integers(-12, 13, picture.shape)
    return Image.fromarray(np.clip(picture + noise, 0, 255).astype(np.uint8))


def write_image(folder: Path, place: int, view: int, metres: float, note: str = "") -> Path:
    """Save one view of a place; `metres` is how far from the place's centre it was taken."""
    folder.mkdir(parents=True, exist_ok=True)
    east = 500_000 + METRES_BETWEEN_PLACES * place + metres
    path = folder / f"@{east:010.2f}@4000000.00@33@S@@@{place}@{view}@@@@@@{note}@.jpg"
    _image(place, view).save(path, quality=90)
    return path


def write_dataset(root: Path) -> Path:
    """Write train, val and test of PLACES places: three database views and two queries each."""
    for number, split in enumerate(("train", "val", "test")):
        for place in range(PLACES):
            for view in range(3):
                write_image(root / "images" / split / "database", 100 * number + place, view, 2.0 * view)
            for view in (3, 4):
                write_image(root / "images" / split / "queries", 100 * number + place, view, 1.0 + view)
    return root
