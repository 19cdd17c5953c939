"""Draws and writes walks along a street, in the folder protocol: frames whose order is in their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

FRAMES, QUERIES = 16, 10


def write_walk(root: Path, splits: Sequence[str] = ("train", "val", "test"), size: int = 32) -> Path:
    """A street of places 12 m apart that is walked along twice, the second walk (the queries) 2 m beside the first."""
    for number, split in enumerate(splits):
        for folder, count, aside in (("database", FRAMES, 0.0), ("queries", QUERIES, 2.0)):
            target = root / "images" / split / folder
            target.mkdir(parents=True)
            for frame in range(count):
                pattern = np.random.default_rng(100 * number + frame).integers(40, 215, (4, 4, 3)).astype(np.uint8)
                noise = np.random.default_rng(int(7919 * number + frame + aside)).integers(-25, 26, (size, size, 3))
                large = np.asarray(Image.fromarray(pattern).resize((size, size), Image.Resampling.BILINEAR))
                picture = Image.fromarray(np.clip(large.astype(np.int16) + noise, 0, 255).astype(np.uint8))
                east, north = 500_000 + 12 * frame + 2000 * number, 4_000_000 + aside
                picture.save(target / f"@{east:010.2f}@{north:010.2f}@33@S@@@{frame:04d}@@@@@@@@.png")
    return root
