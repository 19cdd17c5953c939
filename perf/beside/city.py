"""The photographs that both sides read: made here, in the folder protocol, so that a measurement needs no dataset."""

from __future__ import annotations

import os
from pathlib import Path

from perf.scene import write_images

PHOTOGRAPH = (480, 640)  # height and width of the files, those of Pitts30k
SMALL = (96, 96)


def write_city(folder: Path, name: str, counts: dict[str, tuple[int, int]], size: tuple[int, int]) -> None:
    """Write a dataset, where it is not there yet: split -> (database images, queries), of height and width `size`."""
    root = folder / name
    if root.is_dir():
        return
    making = folder / f"{name}.{os.getpid()}"
    for split, (database, queries) in counts.items():
        write_images(making / "images" / split / "database", database, size)
        write_images(making / "images" / split / "queries", queries, size, offset=4.0)
    making.rename(root)
