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
from vgbench.data.classes import eigenplaces_groups
from vgbench.data.heading_sense import Votes, sense_of_crops, sense_of_panoramas
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


SIGN = {"left": 1, "left_counterclockwise": -1}


def write_streets(folder: Path, convention: str) -> Path:
    """Write the crops of panoramas along two streets that run north-east, with SF-XL's headings by one of its readings.

    Cars pass in both directions; beside each street, to the north-west, stands a facade that alone is blue.
    """
    folder.mkdir(parents=True)
    street = np.array([np.sin(np.radians(40.0)), np.cos(np.radians(40.0))])
    for number in range(20):
        corner = np.array([548_007.5, 4_177_007.5]) + (number // 10) * np.array([150.0, 0.0])
        where = (0.5 * (number % 10) - 2.25) * street
        centre = 40.0 + 180.0 * (number % 2)
        facade = 10 * np.array([-street[1], street[0]])
        panorama = np.asarray(rendered(centre, lamp=np.degrees(np.arctan2(*(facade - where))))).copy()
        # What else is there tells one direction from another.
        panorama[:, :, 1] = np.random.default_rng(number).integers(0, 120, (8, WIDTH))
        for crop in range(VIEWS):
            # They stand every 30 degrees of their leftmost column, whatever the panorama's heading.
            turn = 30.0 * crop - centre + CROP_FIELD / 2
            heading = float(SIGN[convention] * 30 * crop % 360)
            name = ImageName(*(corner + where).tolist(), 10, "S", pano_id=f"pano{number}", heading=heading)
            cut(Image.fromarray(panorama), turn).save(folder / format_name(name).replace(".jpg", ".png"))
    return folder


def shows_facade(path: Path) -> bool:
    with Image.open(path) as image:
        return bool((np.asarray(image)[0, :, 2] > 200).any())


@pytest.mark.parametrize("convention", SIGN)
def test_the_partition_finds_the_crops_that_show_one_facade(
    tmp_path: Path, convention: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By the headings as the crops themselves say they turn, and not by the other reading."""
    table = read_folder(write_streets(tmp_path / "crops", convention))
    votes = sense_of_crops(table, CROP_FIELD)
    assert votes.settled is (convention == "left") and votes.clockwise + votes.counter > 20
    with caplog.at_level("INFO"):
        turned = with_compass_headings(table, "auto", "sf_xl")
    assert ("counter-clockwise (overlapping crops" in caplog.text) is (convention != "left")
    other = next(one for one in SIGN if one != convention)
    found = {}
    for reading, images in (("auto", turned), ("other", with_compass_headings(table, other, "sf_xl"))):
        [(lateral, _)] = eigenplaces_groups(images, side=15, spacing=1, focal=10, tolerance=20, at_least=1, most=9)
        found[reading] = [shows_facade(table.path(int(row))) for row in lateral.rows]
    assert len(found["auto"]) >= 20 and all(found["auto"])
    assert not any(found["other"])
    assert with_compass_headings(table, "auto", "cambridge") is table
    assert np.isnan(compass(np.array([np.nan]), "left_counterclockwise")).all()


def test_crops_that_say_nothing_are_taken_as_eigenplaces_was_trained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    builder = TableBuilder()
    for number in range(8):
        builder.add(f"{number}.jpg", 0.0, 0.0, heading=0.0)
    table = builder.build(tmp_path)
    assert sense_of_crops(table, CROP_FIELD) == Votes(0, 0)
    with caplog.at_level("INFO"):
        turned = with_compass_headings(table, "auto", "sf_xs")
    assert turned.heading.tolist() == pytest.approx([CROP_FIELD / 2] * 8, abs=1e-4)
    assert "--crop_headings has the other readings" in caplog.text


@pytest.mark.parametrize("sign", [1, -1])
def test_streets_say_how_the_headings_of_panoramas_turn(sign: int) -> None:
    random = np.random.default_rng(3)
    utm, heading = [], []
    for street in random.uniform(0, 180, 60):
        step = np.array([np.sin(np.radians(street)), np.cos(np.radians(street))])
        corner = random.uniform(0, 1e5, 2)
        for i in range(6):
            utm.append(corner + 2.0 * i * step + random.normal(0, 0.1, 2))
            heading.append(sign * (street + 180 * random.integers(2) + random.normal(0, 3)) % 360)
    votes = sense_of_panoramas(np.array(utm), np.array(heading))
    assert votes.settled is (sign == 1) and votes.clockwise + votes.counter > 100
    shuffled = sense_of_panoramas(np.array(utm), random.uniform(0, 360, len(utm)))
    assert shuffled.settled is None
    assert sense_of_panoramas(np.zeros((0, 2)), np.zeros(0)).settled is None


@pytest.mark.parametrize(("option", "sign"), [("auto", 1), ("clockwise", 1), ("counterclockwise", -1)])
def test_views_are_cut_out_of_panoramas(tmp_path: Path, option: str, sign: int) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, heading in enumerate((0, 90, 213)):
        name = ImageName(548_000 + 10 * number, 4_177_000, 10, "S", pano_id=f"pano{number}", heading=float(heading))
        rendered(sign * heading, width=PANORAMA_WIDTH).save(raw / format_name(name), quality=95)
    arguments = ["--raw", str(raw), "--part", "panoramas", "--datasets_folder", str(tmp_path / "sets")]
    assert main(["prepare", "sf_xl", *arguments, "--headings", option]) == 0
    table = read_folder(tmp_path / "sets/sf_xl/panoramas/images/train")
    assert len(table) == 3 * VIEWS
    for row in range(len(table)):
        with Image.open(table.path(row)) as view:
            seen = directions(view.convert("RGB"))
            assert view.size == (CROP_WIDTH, 8) and apart(float(seen[CROP_WIDTH // 2]), table.heading[row]) < 3


def test_the_option_is_of_panoramas_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["sf_xl", "--part", "val", "--headings", "clockwise"], ["svox", "--headings", "clockwise"]):
        assert main(["prepare", *words, "--datasets_folder", str(tmp_path)]) == 2
        assert "--headings: is of" in capsys.readouterr().err
