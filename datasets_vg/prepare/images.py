"""Raw pictures that become JPEG."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vgbench.data.image_file import open_image


def as_rgb(file: Path) -> Image.Image:
    """Read an image; what JPEG has no word for (transparency, palettes) becomes RGB, grey stays grey."""
    with open_image(file) as image:
        image.load()
        return image if image.mode in ("RGB", "L") else image.convert("RGB")


def shorter_side(image: Image.Image, pixels: int) -> Image.Image:
    """Resize so that the shorter side has `pixels`, as torchvision's Resize(pixels) does (bilinear, antialiased)."""
    width, height = image.size
    wide, high = (pixels, int(pixels * height / width)) if width <= height else (int(pixels * width / height), pixels)
    size = wide, high
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
