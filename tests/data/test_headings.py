"""Headings of SF-XL's crops, on rendered panoramas: every column shows its own compass direction, and one a lamp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from datasets_vg.__main__ import main
from datasets_vg.prepare.panoramas import VIEWS, cut
from vgbench.data.classes import looks_at
from vgbench.data.headings import CROP_FIELD, CROP_WIDTH, PANORAMA_WIDTH, compass, with_compass_headings
from vgbench.data.protocol import ImageName, format_name, read_folder
from vgbench.data.table import TableBuilder

WIDTH = PANORAMA_WIDTH // 4


def rendered(centre: float, lamp: float | None = None, width: int = WIDTH) -> Image.Image:
    """A panorama that looks `centre` degrees clockwise from north in its middle, and turns clockwise to the right.

    Red and green hold sine and cosine of each column's direction; blue is bright where the lamp is.
    """
    direction = np.radians(centre + ((np.arange(width) + 0.5) / width - 0.5) * 360)
    pixels = np.zeros((8, width, 3))
    pixels[:, :, 0], pixels[:, :, 1] = 127.5 + 127 * np.sin(direction), 127.5 + 127 * np.cos(direction)
    if lamp is not None:
        off = (np.degrees(direction) - lamp + 180) % 360 - 180
        pixels[:, np.argmin(np.abs(off)), 2] = 255
    return Image.fromarray(pixels.round().astype(np.uint8))


def directions(image: Image.Image) -> NDArray[np.float64]:
    sine, cosine = (np.asarray(image, float)[0, :, channel] - 127.5 for channel in (0, 1))
    return np.degrees(np.arctan2(sine, cosine)) % 360


def apart(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


@given(st.floats(0, 359), st.integers(0, VIEWS - 1))
def test_a_crops_heading_by_each_convention_is_that_of_its_middle(centre: float, number: int) -> None:
    view = cut(rendered(centre), 360 * number / VIEWS)
    seen = directions(view)
    middle, left = (seen[view.width // 2] + seen[view.width // 2 - 1]) / 2, seen[0]
    if apart(seen[view.width // 2], seen[view.width // 2 - 1]) < 5 and abs(seen[view.width // 2] - middle) < 5:
        assert apart(middle, centre + 360 * number / VIEWS) < 1.5
    for convention, stored in (("left", left), ("left_counterclockwise", -left % 360)):
        assert apart(float(compass(np.array([stored]), convention)[0]), centre + 360 * number / VIEWS) < 1.5
    assert view.width == WIDTH * CROP_WIDTH // PANORAMA_WIDTH and pytest.approx(55.38, abs=0.01) == CROP_FIELD


def test_the_crops_that_look_at_a_point_show_it() -> None:
    """A lamp east of the camera: by SF-XL's headings the crops that show it are found, by ours they are not."""
    builder, visible = TableBuilder(), []
    for number in range(VIEWS):
        view = cut(rendered(40.0, lamp=90.0), 360 * number / VIEWS)
        stored = -directions(view)[0] % 360
        builder.add(f"{number}.jpg", 0.0, 0.0, heading=stored)
        visible.append(bool((np.asarray(view)[0, :, 2] > 0).any()))
    table, lamp = builder.build(Path("sf_xl")), np.array([[10.0, 0.0]])
    sees = looks_at(with_compass_headings(table, "auto", "sf_xl"), np.repeat(lamp, VIEWS, 0), CROP_FIELD / 2)
    assert sees.tolist() == visible and 1 <= sum(visible) <= 2
    assert looks_at(table, np.repeat(lamp, VIEWS, 0), CROP_FIELD / 2).tolist() != visible
    assert with_compass_headings(table, "auto", "cambridge") is table
    assert np.isnan(compass(np.array([np.nan]), "left_counterclockwise")).all()


def test_views_are_cut_out_of_panoramas(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, heading in enumerate((0, 90, 213)):
        name = ImageName(548_000 + 10 * number, 4_177_000, 10, "S", pano_id=f"pano{number}", heading=float(heading))
        # By the README of SF-XL: 90 is west, so that the middle of the picture looks there.
        rendered(-heading, width=PANORAMA_WIDTH).save(raw / format_name(name), quality=95)
    arguments = ["--raw", str(raw), "--part", "panoramas", "--datasets_folder", str(tmp_path / "sets")]
    assert main(["prepare", "sf_xl", *arguments]) == 0
    table = read_folder(tmp_path / "sets/sf_xl/panoramas/images/train")
    assert len(table) == 3 * VIEWS
    for row in range(len(table)):
        with Image.open(table.path(row)) as view:
            seen = directions(view.convert("RGB"))
            assert view.size == (CROP_WIDTH, 8) and apart(float(seen[CROP_WIDTH // 2]), table.heading[row]) < 3
