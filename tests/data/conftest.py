"""Small datasets made on the spot, and the real photographs where they are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from locations import PHOTOGRAPHS
from PIL import Image


@pytest.fixture
def real_photographs() -> Path:
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the photographs of ../shared/data are not here")
    return PHOTOGRAPHS


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write a picture of smooth random colours and return its path."""

    def write(path: Path, height: int = 24, width: int = 32, seed: int = 0, **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, **options)
        return path

    return write


@pytest.fixture
def dataset(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """A dataset with 12 database images 10 m apart and 5 queries, test split only."""
    root = tmp_path / "toy"
    for folder, count in (("database", 12), ("queries", 5)):
        for i in range(count):
            name = f"@{500000 + 10 * i:010.2f}@{4000000:010.2f}@@@@@@@{i:03d}@@@@@{folder}@.jpg"
            write_image(root / "images" / "test" / folder / name, seed=i + 100 * (folder == "queries"))
    return root
