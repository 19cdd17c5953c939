"""Positions, lists, names and images of sizes that nobody expects."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from locations import REPOSITORY
from PIL import Image

from datasets_vg.describe import _size
from datasets_vg.own.writing import _place
from datasets_vg.prepare.images import as_rgb
from datasets_vg.prepare.panoramas import _cut_file
from vgbench.data.decode import check_image, decode_image, image_size
from vgbench.data.image_file import bounded, open_image
from vgbench.data.protocol import read_folder
from vgbench.data.table import TableBuilder
from vgbench.errors import UserError
from vgbench.report.picture import read_thumbnail
from vgbench.report.tables.text import plain_cell

_PEAK = """
import sys, tracemalloc
from vgbench.data.protocol import read_folder
read_folder(sys.argv[2])
tracemalloc.start()
table = read_folder(sys.argv[1])
print(len(table), tracemalloc.get_traced_memory()[1])
"""
_DECODE = """
import resource, sys
from vgbench.data.decode import decode_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(tuple(decode_image(sys.argv[1], (480, 640)).shape))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("east", ["100000001.5", "9" * 12, "-" + "9" * 100])
@pytest.mark.parametrize("zone", ["", "33"])
def test_positions_that_are_nowhere_are_refused(tmp_path: Path, east: str, zone: str) -> None:
    (tmp_path / f"@{east}@4000000.00@{zone}@{'S' * bool(zone)}@.jpg").touch()
    with pytest.raises(UserError, match=r"a name with metres beyond 1e\+08.*Expected @UTM_east"):
        read_folder(tmp_path)


def test_one_image_under_several_spellings_is_one(tmp_path: Path) -> None:
    name = "@0500000.00@4000000.00@33@S@.jpg"
    (tmp_path / "database/a").mkdir(parents=True)
    (tmp_path / "database/a" / name).touch()
    spellings = ("a/", "./a/", "database/a/", "a//", "a/./", "a/../a/", "database/../database/a/", "../database/a/")
    lines = "".join(f"{prefix}{name}\n" for prefix in spellings)
    (tmp_path / "database_images_paths.txt").write_text(lines)
    assert list(read_folder(tmp_path / "database").relative_paths()) == [f"a/{name}"]


@pytest.mark.parametrize("line", ["a/../../outside/{}", "database/../../outside/{}", "a/b/../../../outside/{}"])
def test_lines_that_leave_the_folder_are_refused(tmp_path: Path, line: str) -> None:
    name = "@0500000.00@4000000.00@33@S@.jpg"
    for folder in ("database/a/b", "outside"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).touch()
    (tmp_path / "database_images_paths.txt").write_text(line.format(name) + "\n")
    with pytest.raises(UserError, match=r"line 1 leaves the folder|which is not in"):
        read_folder(tmp_path / "database")


def test_a_list_with_a_nul_byte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "database").mkdir()
    (tmp_path / "database_images_paths.txt").write_bytes(b"@1@2@\0.jpg\n")
    with pytest.raises(UserError, match="NUL byte"):
        read_folder(tmp_path / "database")


@given(st.lists(st.text(alphabet="ab/@0é", max_size=20), max_size=40))
def test_rows_come_in_the_order_of_paths(names: list[str]) -> None:
    builder = TableBuilder()
    for name in names:
        builder.add(name, 0.0, 0.0)
    order = builder.build(Path()).order().tolist()
    distinct = sorted(set(names), key=os.fsencode)
    assert order == [names.index(name) for name in distinct]


def test_an_unsorted_list_costs_below_300_bytes_an_image(tmp_path: Path) -> None:
    count = 60_000
    names = [f"@{500000 + i % 999}.00@{4000000 + i // 999}.00@33@S@@@{i:06d}@@@@@@@@.jpg" for i in range(count)]
    random.Random(0).shuffle(names)
    for folder, listed in (("many", names), ("warm", names[:2])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / listed[0]).touch()
        (tmp_path / f"{folder}_images_paths.txt").write_text("".join(f"{name}\n" for name in listed))
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "many"), str(tmp_path / "warm")]
    length, peak = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    assert length == count and peak / count < 300


@pytest.mark.parametrize("text", ["=1+1.jpg", "+1", "-1", "@SUM(A1)", "@1+1", "\t=1", "\r=1", "\n=1", "@1@.jpg"])
def test_cells_that_begin_a_formula_are_text(text: str) -> None:
    assert plain_cell(text) == (text if text == "@1@.jpg" else f"'{text}")


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 1)])
def test_strips_have_thumbnails(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "strip.png")
    small = read_thumbnail(tmp_path / "strip.png", (160, 120))
    assert 1 <= small.width <= 160 and 1 <= small.height <= 120
    assert decode_image(tmp_path / "strip.png", (32, 48)).shape == (3, 32, 48)


def _decode_apart(path: Path) -> tuple[str, int]:
    shown = subprocess.run([sys.executable, "-c", _DECODE, str(path)], capture_output=True, check=True, text=True)
    shape, kilobytes = shown.stdout.splitlines()
    return shape, int(kilobytes) * 1024


def test_a_small_file_of_many_pixels_stays_in_bounds(tmp_path: Path) -> None:
    Image.new("P", (12_000, 12_000)).save(tmp_path / "bomb.png", optimize=True)
    shape, more = _decode_apart(tmp_path / "bomb.png")
    assert shape == "(3, 480, 640)" and more < 700e6


def test_a_jpeg_of_200_megapixels_is_decoded_small(tmp_path: Path) -> None:
    Image.new("L", (20_000, 10_000), 90).save(tmp_path / "large.jpg")
    shape, more = _decode_apart(tmp_path / "large.jpg")
    assert shape == "(3, 480, 640)" and more < 300e6
    assert read_thumbnail(tmp_path / "large.jpg", (160, 120)).getpixel((80, 40)) == (90, 90, 90)
    with pytest.raises(UserError, match="200 million pixels, 180 at most"):
        decode_image(tmp_path / "large.jpg", None)


def test_large_images_are_reduced_to_what_they_show() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 7, 3), np.uint8)
    large = Image.fromarray(pixels).resize((5000, 4200), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    large.save(stream, "PNG", compress_level=1)
    small = bounded(Image.open(stream), (320, 240))
    assert small.size == (-(-5000 // 7), 4200 // 7)
    expected = np.asarray(large.reduce(7), np.int16)
    assert np.abs(np.asarray(small, np.int16) - expected).max() <= 1


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """196 million pixels in 24 kB: more than Pillow opens."""
    path = tmp_path_factory.mktemp("bomb") / "@0@0@@@@@@@90@.png"
    Image.new("1", (14_000, 14_000)).save(path, optimize=True)
    return path


READERS: dict[str, Callable[[Path], object]] = {
    "decoding": lambda path: decode_image(path, (8, 8)),
    "its size": image_size,
    "raw pictures": as_rgb,
    "panoramas": lambda path: _cut_file(path, 0.0),
    "stats": _size,
    "own pictures that lie": lambda path: _place(path.rename(path.with_suffix(".heic")), path, "copy"),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_a_bomb(bomb: Path, tmp_path: Path, reader: str) -> None:
    path = Path(shutil.copy(bomb, tmp_path))
    with pytest.raises((UserError, Image.DecompressionBombError), match=r"exceeds limit|million pixels"):
        READERS[reader](path)


def test_the_bound_is_one_for_all_and_pillows_own_stays() -> None:
    code = "import vgbench.data.decode; from PIL import Image; print(Image.MAX_IMAGE_PIXELS)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert 0 < int(shown) < 100e6
    files = [*REPOSITORY.glob("vgbench/**/*.py"), *REPOSITORY.glob("datasets_vg/**/*.py")]
    opening = [file.name for file in files if "Image.open(" in file.read_text("utf-8")]
    assert opening == ["image_file.py"]


def test_a_progressive_jpeg_is_judged_by_its_coefficients(tmp_path: Path) -> None:
    small, path = tmp_path / "small.jpg", tmp_path / "large.jpg"
    Image.new("L", (64, 64), 90).save(small, progressive=True)
    written = small.read_bytes()
    size = written.index(b"\xff\xc2") + 5  # start of frame, length, bits: height and width follow
    path.write_bytes(written[:size] + struct.pack(">HH", 20_000, 20_000) + written[size + 4 :])
    assert "million pixels" in check_image(path)
    with pytest.raises(Image.DecompressionBombError, match="400 million pixels"), open_image(path, (8, 8)):
        pass
    assert image_size(path) == (20_000, 20_000)
