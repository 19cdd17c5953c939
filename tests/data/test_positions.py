"""Positions that cannot be, and positions of several zones in one frame."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data import neighbours_within
from vgbench.data.positions import in_one_frame, is_plain_decimal
from vgbench.data.protocol import ImageName, examine_folder, format_name, parse_name, read_folder, read_split
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.data.utm import FRAME_SHIFT, check_degrees, from_latitude_longitude, latitude_longitude, zone_of, zones
from vgbench.errors import UserError


def named(latitude: float, longitude: float, *, zone: int | None = None, degrees: bool = True, note: str = "") -> str:
    at = from_latitude_longitude(latitude, longitude, zone)
    return format_name(
        ImageName(
            at.east, at.north, at.zone, at.letter, latitude if degrees else None, longitude if degrees else None,
            note=note,
        )
    )  # fmt: skip


def folder_of(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        read_folder(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def geodesic(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Distance on the ellipsoid, metres; UTM's scale is within 0.1 % of it inside a zone."""
    return float(pyproj.Geod(ellps="WGS84").inv(a[1], a[0], b[1], b[0])[2])


@pytest.mark.parametrize(
    "names",
    [
        ["@52.20516@0.12031@.jpg", "@52.20517@0.12035@.jpg"],  # no zone: as small as a town in degrees
        ["@0000052.21@0000000.12@.jpg", "@0000052.22@0000000.13@.jpg"],
        ["@000052.21@000000.12@31@U@52.20516@0.12031@@@@@@@@@.jpg"],  # a zone: nothing is that near its origin
        ["@0303233.20@5787765.90@.jpg", "@0303234.20@5787765.90@.jpg", "@52.20516@0.12031@.jpg"],  # one among metres
        ["@-122.45346@37.74629@.jpg", "@-122.45349@37.74630@.jpg"],
    ],
)
def test_degrees_in_the_metre_fields_are_refused(tmp_path: Path, names: list[str]) -> None:
    assert "degrees where metres are expected" in refusal(folder_of(tmp_path / "database", *names))


@pytest.mark.parametrize(
    "names",
    [
        ["@0@00000.0@@@@@0@@@@@@@@.jpg", "@0@00002.4@@@@@1@@@@@@@@.jpg"],  # Nordland
        ["@0@0@@@@@0@@@@@@@@.jpg", "@0@1000@@@@@1@@@@@@@@.jpg"],  # AmsterTime
        ["@1@2@.jpg", "@1@3@.jpg"],
        ["@-12.37@4.51@.jpg", "@30.12@-7.25@.jpg"],  # metres of a building
    ],
)
def test_sets_in_metres_of_their_own_are_read(tmp_path: Path, names: list[str]) -> None:
    assert examine_folder(folder_of(tmp_path / "database", *names)).findings == ()


@pytest.mark.parametrize("text", ["20210601_153000", "1e6", "nan", "inf", "0x1", "١٢", "", "1.2.3", " 1", "--1"])
def test_numbers_that_are_no_plain_decimals_are_no_coordinates(tmp_path: Path, text: str) -> None:
    assert not is_plain_decimal(text)
    folder = folder_of(tmp_path / "database", f"@{text}@4000000.00@.jpg", "@0500000.00@4000000.00@.jpg")
    assert "no UTM coordinates" in refusal(folder) and text in refusal(folder)
    with pytest.raises(UserError):
        parse_name(f"@{text}@4000000.00@.jpg")


@given(st.floats(-1e7, 1e7))
def test_plain_decimals_are_read(value: float) -> None:
    assert is_plain_decimal(np.format_float_positional(value))


def test_degrees_that_contradict_the_metres_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    at = from_latitude_longitude(52.2, 0.12)
    other = format_name(ImageName(at.east, at.north, at.zone, at.letter, 52.3, 0.12))
    coarse = f"@{at.east + 40:010.2f}@{at.north:010.2f}@31@U@52.200@0.120@@@@@@@@@.jpg"  # three decimals: 111 m
    folder = folder_of(tmp_path / "database", named(52.2, 0.1201), other, coarse)
    with caplog.at_level(logging.WARNING):
        assert len(read_folder(folder)) == 3
    [line] = [record.getMessage() for record in caplog.records]
    assert "1 of 3 names whose latitude and longitude contradict" in line and other in line and "11 km" in line


def test_degrees_out_of_range(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path / "database", "@0500000.00@4000000.00@31@U@95.00000@3.00000@@@@@@@@@.jpg")
    with caplog.at_level(logging.WARNING):
        read_folder(folder)
    assert "out of range" in caplog.text
    for latitude, longitude in ((90.5, 0), (-81, 0), (0, 181), (math.nan, 0), (0, math.nan)):
        with pytest.raises(UserError, match="out of range"):
            check_degrees(latitude, longitude)
        with pytest.raises(UserError, match="out of range"):
            from_latitude_longitude(latitude, longitude)


def test_metres_that_are_nowhere(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "database", "@20210601@153000@31@U@@@@@@@@@@@.jpg")
    assert "nowhere in a UTM zone" in refusal(folder)


def test_names_of_another_order_of_fields_keep_their_metres_alone(tmp_path: Path) -> None:
    """As SVOX has them: the year and month where a zone is expected, then a panorama's id and other numbers."""
    name = "@0619000.00@5736000.00@201405@pano@90@0@x@@270@@@@2014@@.jpg"
    table = read_folder(folder_of(tmp_path / "gallery", name))
    assert table.zone[0] == 0 and np.isnan(table.heading[0]) and table.timestamp(0) == ""


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-70, 70),
    st.sampled_from([-180, -126, 0, 6, 12]),
    st.lists(st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)), min_size=2, max_size=8),
)
def test_across_the_border_of_zones_distances_are_true(
    middle: float, border: float, steps: list[tuple[float, float]]
) -> None:
    where = [(middle + up, (border + right + 180) % 360 - 180) for up, right in steps]
    builder, codes = TableBuilder(), []
    for latitude, longitude in where:
        at = from_latitude_longitude(latitude, longitude)
        builder.add("x.jpg", at.east, at.north)
        codes.append(at.zone if at.letter >= "N" else -at.zone)
    [table], found = in_one_frame([builder.build(Path("x"), np.array(codes, np.int8))])
    assert (found is None) == (len(set(codes)) == 1)
    for row, one in enumerate(where):
        expected = geodesic(where[0], one)
        assert np.hypot(*(table.utm[row] - table.utm[0])) == pytest.approx(expected, rel=0.0012, abs=0.001)
    degrees = latitude_longitude(table.utm, zones(table, np.arange(len(table))))
    assert np.abs(degrees[:, 0] - [lat for lat, _ in where]).max() < 1e-7


def test_two_cities_at_the_same_numbers_are_not_one_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Zones 31 and 10: the same metres, 8000 km apart; each keeps its own distances."""
    root = tmp_path / "two"
    folder_of(
        root / "images/test/database",
        "@0500000.00@5000000.00@31@T@@@@@@@@@@@.jpg", "@0500020.00@5000000.00@31@T@@@@@@@@@@@.jpg",
        "@0500000.00@5000000.00@10@T@@@@@@@@@@@.jpg",
    )  # fmt: skip
    folder_of(root / "images/test/queries", "@0500001.00@5000000.00@10@T@@@@@@@@@@@.jpg")
    with caplog.at_level(logging.WARNING):
        split = read_split(root, "test")
    assert "2 far regions" in caplog.text
    near = neighbours_within(split.queries.utm, split.database.utm, 25)
    assert [split.database.relative_path(row)[23:25] for row in near.of(0)] == ["10"]
    same = [row for row in range(3) if "@31@" in split.database.relative_path(row)]
    assert np.hypot(*np.diff(split.database.utm[same], axis=0).T) == pytest.approx(20)
    assert np.abs(np.subtract.outer(split.database.utm[:, 0], split.database.utm[:, 0])).max() > FRAME_SHIFT / 2
    assert zones(split.queries, np.array([0])).tolist() == ["10T"]
    assert latitude_longitude(split.queries.utm, np.array(["10T"]))[0, 1] == pytest.approx(-123, abs=1e-3)


def test_queries_of_another_zone_than_the_database_are_projected(tmp_path: Path) -> None:
    root = tmp_path / "border"
    folder_of(root / "images/test/database", named(50.0, 5.9999), named(50.0, 5.9990))
    folder_of(root / "images/test/queries", named(50.0, 6.0001))
    split = read_split(root, "test")
    assert zone_of(5.9999) != zone_of(6.0001)
    metres = np.hypot(*(split.database.utm - split.queries.utm[0]).T)
    assert sorted(metres) == pytest.approx([14.3, 78.9], abs=0.1)


def test_names_without_a_zone_among_several_are_refused(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "database", named(50.0, 5.9), named(50.0, 6.1), "@0500000.00@5000000.00@@@@@@@@@@@@@.jpg"
    )
    assert "names say none" in refusal(folder)
    root = tmp_path / "set"
    folder_of(root / "images/test/database", named(50.0, 5.9), named(50.0, 6.1))
    folder_of(root / "images/test/queries", "@0500000.00@5000000.00@@@@@@@@@@@@@.jpg")
    with pytest.raises(UserError, match="names say none"):
        read_split(root, "test")


def test_one_zone_changes_nothing(tmp_path: Path) -> None:
    names = [named(52.2, 0.12), named(52.2, 0.121, degrees=False)]
    table = read_folder(folder_of(tmp_path / "database", *names))
    assert table.utm.tolist() == [[parse_name(n).utm_east, parse_name(n).utm_north] for n in sorted(names)]
    assert table.zone.tolist() == [31, 31]


def test_the_zone_survives_selection() -> None:
    builder = TableBuilder()
    for east in (1.0, 2.0):
        builder.add(f"{east}.jpg", east, 0)
    table: ImageTable = builder.build(Path(), np.array([31, -31], np.int8), upright=True)
    assert table.select(np.array([1])).zone.tolist() == [-31] and table.select(np.array([1])).upright


def test_norway_and_svalbard() -> None:
    assert [zone_of(5, 60), zone_of(5, 50), zone_of(8, 75), zone_of(10, 75), zone_of(20, 75), zone_of(35, 75)] == [
        32, 31, 31, 33, 33, 37,
    ]  # fmt: skip
