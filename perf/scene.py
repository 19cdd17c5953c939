"""Photograph-like JPEG files to measure on, made here so that a measurement needs no dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from vgbench.data import ImageTable, Split, read_folder


def write_images(
    folder: Path, count: int, size: tuple[int, int], spacing: float = 30.0, offset: float = 0.0
) -> ImageTable:
    """Write `count` JPEG files of size (height, width) along a street, `spacing` metres apart; return their table."""
    folder.mkdir(parents=True)
    height, width = size
    for place in range(count):
        rng = np.random.default_rng(place)
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3)).astype(np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = Image.fromarray(rng.integers(96, 160, (height, width, 3)).astype(np.uint8)).filter(
            ImageFilter.BoxBlur(1)
        )
        name = f"@{500_000 + spacing * place + offset:010.2f}@4000000.00@@@@@@@@@@@@@.jpg"
        Image.blend(picture, grain, 0.3).save(folder / name, quality=85)
    return read_folder(folder)


def write_split(root: Path, database: int, queries: int, size: tuple[int, int]) -> Split:
    """Write a training split in which every query has a positive 4 m away."""
    tables = (
        write_images(root / "images" / "train" / "database", database, size),
        write_images(root / "images" / "train" / "queries", queries, size, offset=4.0),
    )
    return Split(name="train", root=root, database=tables[0], queries=tables[1])
