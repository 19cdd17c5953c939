"""What is said of tables, tracks and films that cannot be used as they were meant."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np
import pytest
from own_pictures import START, along, exif, picture, write_film, write_gpx

from datasets_vg.own.arguments import prepare_from
from datasets_vg.own.collect import OwnOptions, collect
from datasets_vg.own.splitting import assign
from datasets_vg.own.tracks import read_track
from vgbench.errors import UserError


def photographs(raw: Path, count: int = 4, *, every: int = 10, hours: int = 0, offset: str = "") -> Path:
    """Pictures with a time and without a position."""
    raw.mkdir(exist_ok=True)
    for number in range(count):
        time = START + datetime.timedelta(hours=hours, seconds=number * every)
        picture(number).save(raw / f"{number}.jpg", exif=exif(time=time, offset=offset))
    return raw


def table(raw: Path, head: str, cells: str, count: int = 4) -> None:
    """A line of name, latitude, longitude and more for each picture; "{n}" in `cells` is its number."""
    places = [along(40 * number) for number in range(count)]
    lines = [f"{n}.jpg,{place[0]:.6f},{place[1]:.6f},{cells.format(n=n)}\n" for n, place in enumerate(places)]
    (raw / "positions.csv").write_text(f"name,lat,lon,{head}\n" + "".join(lines))


@pytest.mark.parametrize(
    ("head", "cells", "said"),
    [
        ("heading", "east", "4 of 4 cells of heading cannot be read and count as unknown, such as 'east' in line 2"),
        ("time", "yesterday", "4 of 4 cells of time cannot be read and count as unknown, such as 'yesterday'"),
        ("altitude", "12 m", "4 of 4 cells of altitude cannot be read"),
        ("heading", "{n}0", ""),
    ],
)
def test_cells_that_cannot_be_read(
    head: str, cells: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table(photographs(tmp_path / "raw"), head, cells)
    assert len(collect(tmp_path / "raw", OwnOptions())) == 4
    assert said in caplog.text and bool(said) == bool(caplog.records)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "in an empty file"),
        ("name,lat,lon\n", "no rows below the first line"),
        ("name,lat\n0.jpg,52.1\n", "no columns of latitude and longitude in name, lat"),
        ("lat,lon\n52.1,0.1\n", "no column of file names"),
    ],
)
def test_a_table_without_positions_says_so(
    text: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photographs(tmp_path / "raw") / "positions.csv").write_text(text)
    with pytest.raises(UserError, match="no picture with a position among 4"):
        collect(tmp_path / "raw", OwnOptions())
    assert f"not used: {tmp_path}/raw/positions.csv: no " in caplog.text and said in caplog.text


def test_two_positions_of_one_picture_are_refused(tmp_path: Path) -> None:
    table(photographs(tmp_path / "raw"), "heading", "90")
    with (tmp_path / "raw/positions.csv").open("a") as lines:
        lines.write("1.jpg,52.9,0.1,90\n")
    with pytest.raises(UserError, match=r"line 6: 1\.jpg has another position in .*line 3"):
        collect(tmp_path / "raw", OwnOptions())


def test_a_row_without_a_position_leaves_that_of_the_picture(tmp_path: Path) -> None:
    raw = photographs(tmp_path / "raw", 3)
    picture(3).save(raw / "3.jpg", exif=exif(along(120), time=START))
    (raw / "positions.csv").write_text("name,lat,lon,split,part\n3.jpg,,,train,queries\n0.jpg,52.2,0.1,,\n2.jpg,,,,\n")
    shots = {shot.name: shot for shot in collect(raw, OwnOptions())}
    assert set(shots) == {"0.jpg", "3.jpg"}
    assert shots["3.jpg"].latitude == pytest.approx(along(120)[0], abs=1e-6)
    assert (shots["3.jpg"].split, shots["3.jpg"].part) == ("train", "queries")


def test_a_clock_without_a_zone_is_said_to_be_taken_as_utc(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = photographs(tmp_path / "raw")
    write_gpx(raw / "walk.gpx", [(seconds, along(seconds)) for seconds in range(0, 40, 5)])
    with caplog.at_level("INFO"):
        collect(raw, OwnOptions())
        assert "4 by a track, their clock taken as UTC (else: --utc_offset HOURS)" in caplog.text
        caplog.clear()
        collect(raw, OwnOptions(utc_offset=0.0))
        collect(photographs(raw, hours=2, offset="+02:00"), OwnOptions())
    assert caplog.text.count("4 by a track)") == 2


def test_a_track_of_another_time_says_both_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = photographs(tmp_path / "raw", hours=2)
    write_gpx(raw / "walk.gpx", [(seconds, along(seconds)) for seconds in range(0, 40, 5)])
    expected = r"4 of 2024-05-17 12:00 to 2024-05-17 12:00 UTC, .*walk.gpx 2024-05-17 10:00 to 2024-05-17 10:00 UTC"
    with pytest.raises(UserError, match=expected):
        collect(raw, OwnOptions())
    assert len(collect(raw, OwnOptions(utc_offset=2.0))) == 4
    caplog.clear()
    picture(9).save(raw / "9.jpg")
    photographs(raw, 2)
    assert [shot.name for shot in collect(raw, OwnOptions())] == ["0.jpg", "1.jpg"]
    assert "3 left out" in caplog.text and "; 1 without a time in the EXIF)" in caplog.text


def test_a_track_that_ends_before_its_film(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_film(tmp_path / "drive.avi", 100)
    write_gpx(tmp_path / "drive.gpx", [(seconds, along(seconds * 10)) for seconds in range(5)])
    assert len(collect(tmp_path, OwnOptions())) > 5
    assert "5 of its 10 s are left out, since drive.gpx says nothing of them" in caplog.text


def test_height_above_the_ground_is_no_altitude(tmp_path: Path) -> None:
    cues = [
        f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n[latitude: 52.1{n}] [longitude: 0.1] [rel_alt: 1.2{more}]\n\n"
        for n, more in enumerate((" abs_alt: 30.4", ""))
    ]
    (tmp_path / "a.srt").write_text("".join(cues))
    altitude = read_track(tmp_path / "a.srt").altitude
    assert altitude[0] == 30.4 and altitude[1] != altitude[1]


def test_splits_by_hand_are_pointed_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table(photographs(tmp_path / "raw"), "part", "database")
    shots = collect(tmp_path / "raw", OwnOptions())
    utm = np.array([[40.0 * number, 0.0] for number in range(4)])
    assign(shots, utm, "date", 25.0)
    assert "4 pictures have a split of their own" in caplog.text and "--split hand" in caplog.text
    with pytest.raises(UserError, match="test: 4 pictures, database alone"):
        assign(shots, utm, "hand", 25.0)
    with pytest.raises(UserError, match="test: 1 picture, database alone"):
        assign(shots[:1], utm[:1], "date", 25.0)


def test_an_offset_that_is_no_number(tmp_path: Path) -> None:
    given = dict.fromkeys(("positions", "track", "max_gap", "step", "split", "buffer"))
    options = argparse.Namespace(raw=tmp_path, own_name="town", utc_offset=float("nan"), **given)
    with pytest.raises(UserError, match="--utc_offset nan: out of range"):
        prepare_from(options, tmp_path / "sets")
