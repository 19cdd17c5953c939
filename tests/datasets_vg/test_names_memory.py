"""What verify and stats keep of names: below 300 bytes an image at the peak, whatever the layout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import raw_trees
from locations import REPOSITORY

COUNT = 24_000
_COMMANDS = ("verify --names_only", "stats")
_PEAK = """
import sys, tracemalloc
import scipy.spatial  # which many images need: the library is no name
from datasets_vg.__main__ import main
few, many, *commands = sys.argv[1:]
for command in commands:
    assert main([*command.split(), few]) == 0
    tracemalloc.start()
    assert main([*command.split(), many]) == 0
    print("peak", tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
"""


def names(count: int) -> list[str]:
    """Names of a hundred letters, 30 m apart, in no order."""
    places = [(i * 7919) % count for i in range(count)]
    where = [f"@{400_000 + i % 300 * 30:010.2f}@{4_900_000 + i // 300 * 30:010.2f}@32@T" for i in places]
    more = [f"@@@{i:031d}@@{i % 360:03d}@@@@20220{i % 9 + 1}@{i // 8:05d}@.jpg" for i in places]
    return [f"{one}{other}" for one, other in zip(where, more, strict=True)]


def flat(root: Path, count: int) -> Path:
    for folder, share in (("database", count * 4 // 5), ("queries", count // 5)):
        _fill(root / "images" / "test" / folder, names(share))
    return root


def cities(root: Path, count: int) -> Path:
    for city in range(8):
        _fill(root / "train" / f"City{city}", names(count // 8))
    return root


def _fill(folder: Path, chosen: list[str]) -> None:
    picture = raw_trees.picture(folder.parent / "one.jpg")
    folder.mkdir()
    for name in chosen:
        os.link(picture, folder / name)
    picture.unlink()


@pytest.mark.parametrize("layout", [flat, cities])
def test_names_take_below_300_bytes_an_image(layout: Callable[[Path, int], Path], tmp_path: Path) -> None:
    few, many = layout(tmp_path / "few", 80), layout(tmp_path / "many", COUNT)
    words = [sys.executable, "-c", _PEAK, str(few), str(many), *_COMMANDS]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    shown = subprocess.run(words, capture_output=True, check=True, text=True, cwd=tmp_path, env=environment).stdout
    peaks = [int(line.split()[1]) / COUNT for line in shown.splitlines() if line.startswith("peak")]
    assert len(peaks) == len(_COMMANDS) and max(peaks) < 300, f"bytes an image: {peaks}"
    shutil.rmtree(many)
