"""`prepare folder`: a dataset of somebody's own pictures, by EXIF, tables, tracks and films."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_pictures import START, along, exif, picture, write_film, write_gpx
from PIL import Image

from datasets_vg.__main__ import main
from vgbench.data.protocol import parse_name, read_folder, read_split
from vgbench.data.utm import from_latitude_longitude


def prepared(raw: Path, root: Path, capsys: pytest.CaptureFixture[str], *extra: str, status: int = 0) -> str:
    arguments = ["prepare", "folder", "--raw", str(raw), "--name", root.name, "--datasets_folder", str(root.parent)]
    assert main([*arguments, *extra]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


def walk(raw: Path, count: int = 16, step: float = 10.0, day: int = 0, **more: Any) -> Path:
    raw.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        time = START + datetime.timedelta(days=day, seconds=number)
        picture(number).save(raw / f"IMG_{day}{number:03d}.jpg", exif=exif(along(step * number), time=time, **more))
    return raw


def test_exif_becomes_the_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, root = walk(tmp_path / "raw", altitude=17.25, heading=271.6), tmp_path / "sets/my_town"
    assert prepared(raw, root, capsys).strip() == str(root)
    split = read_split(root, "test")
    assert (len(split.database), len(split.queries)) == (12, 4)
    name = parse_name(split.database.relative_path(0))
    expected = from_latitude_longitude(*along(0))
    assert (name.utm_east, name.utm_north) == (
        pytest.approx(expected.east, abs=0.02),
        pytest.approx(expected.north, abs=0.02),
    )
    assert (name.zone_number, name.zone_letter, name.heading, name.height) == (31, "U", 272, 17.2)
    assert name.timestamp == "20240517_100000" and name.pano_id == "IMG_0000"
    assert split.database.path(0).is_symlink() and main(["verify", str(root)]) == 0
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    prepared(raw, root, capsys)  # is left as it is
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_last_day_are_queries_and_turned_pictures_are_turned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = walk(tmp_path / "raw", 6)
    walk(raw, 3, day=1, turn=6)
    root = tmp_path / "town"
    prepared(raw, root, capsys, "--copy") if _has_copy() else prepared(raw, root, capsys)
    split = read_split(root, "test")
    assert (len(split.database), len(split.queries)) == (6, 3)
    assert {split.queries.timestamp(row)[:8] for row in range(3)} == {"20240518"}
    with Image.open(split.queries.path(0)) as image:
        assert image.size == (48, 64) and image.getexif().get(0x0112, 1) == 1


def _has_copy() -> bool:
    from datasets_vg.__main__ import _parser

    return "--copy" in _parser().format_help()


@pytest.mark.parametrize(("separator", "bom"), [(",", ""), (";", "\ufeff"), ("\t", "")])
def test_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], separator: str, bom: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = [separator.join(["File", "Latitude", "Longitude", "Heading", "Time", "unknown"])]
    for number in range(8):
        picture(number).save(raw / f"{number}.png")
        lat, lon = (f"{value:.6f}" for value in along(10 * number))
        if separator == ";":
            lat, lon = lat.replace(".", ","), lon.replace(".", ",")
        lines.append(separator.join([f"{number}.png", lat, lon, "90", f"2024-05-17T10:00:{number:02d}Z", "x"]))
    (raw / "positions.csv").write_text(bom + "\r\n".join(lines), "utf-8")
    prepared(raw, tmp_path / "town", capsys)
    table = read_folder(tmp_path / "town/images/test/database")
    assert len(table) == 6 and (table.heading == 90).all() and table.timestamp(0) == "20240517_100000"
    assert np.diff(np.sort(table.utm[:, 0]))[0] == pytest.approx(10, abs=0.2)


def test_a_bad_row_of_a_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = walk(tmp_path / "raw", 4)
    (raw / "p.csv").write_text("name,lat,lon\nIMG_0000.jpg,95.0,0\n")
    assert "p.csv: line 2: latitude 95" in prepared(raw, tmp_path / "town", capsys, status=2)
    (raw / "p.csv").write_text("name,lat,lon\nIMG_0000.jpg,1e1,0\n")
    assert "no plain decimal" in prepared(raw, tmp_path / "town", capsys, status=2)
    assert not (tmp_path / "town").exists()


def test_a_track_places_photographs_by_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One clock is an hour ahead and says so, one is two hours ahead and does not."""
    raw = tmp_path / "raw"
    raw.mkdir()
    write_gpx(raw / "walk.gpx", [(second, along(2 * second)) for second in range(0, 101, 25)])
    for number in range(8):
        said = number % 2 == 0
        time = START + datetime.timedelta(hours=1 if said else 2, seconds=10 * number)
        picture(number).save(raw / f"{number}.jpg", exif=exif(time=time, offset="+01:00" if said else ""))
    late = START + datetime.timedelta(hours=2, seconds=200)
    picture(9).save(raw / "late.jpg", exif=exif(time=late))
    prepared(raw, tmp_path / "town", capsys, "--utc_offset", "2")
    split = read_split(tmp_path / "town", "test")
    east = np.sort(np.concatenate([split.database.utm, split.queries.utm])[:, 0])
    assert east == pytest.approx(303_000 + 20 * np.arange(8), abs=0.1)  # the late one is not among them


@pytest.mark.parametrize("kind", ["gpx", "csv", "srt"])
def test_a_film_gives_a_frame_every_few_metres(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_film(raw / "drive.avi", 101)  # 10 seconds at 10 frames a second
    if kind == "gpx":
        write_gpx(raw / "drive.gpx", [(second, along(10 * second)) for second in range(11)])
    elif kind == "csv":
        rows = ["time,lat,lon", *(f"{s},{along(10 * s)[0]:.7f},{along(10 * s)[1]:.7f}" for s in range(11))]
        (raw / "drive.csv").write_text("\n".join(rows))
    else:
        cues = [
            f"{s + 1}\n00:00:{s:02d},000 --> 00:00:{s:02d},900\n[latitude: {along(10 * s)[0]:.7f}] "
            f"[longitude: {along(10 * s)[1]:.7f}] [rel_alt: 1.2 abs_alt: 30.5]\n"
            for s in range(11)
        ]
        (raw / "drive.srt").write_text("\n".join(cues))
    prepared(raw, tmp_path / "town", capsys, "--step", "10")
    split = read_split(tmp_path / "town", "test")
    utm = np.concatenate([split.database.utm, split.queries.utm])
    assert len(utm) in (10, 11) and np.diff(np.sort(utm[:, 0])) == pytest.approx(10, abs=1.1)
    assert np.nanmax(np.abs(split.database.heading - 88)) <= 2  # east, and 2 degrees off the zone's middle
    names = [parse_name(name) for name in split.database.relative_paths()]
    assert all(name.pano_id.startswith("drive_0000") for name in names)
    frame = int(names[2].pano_id.rpartition("_")[2])
    expected = np.asarray(picture(frame // 10), float)
    rows = [row for row in range(len(split.database)) if names[2].pano_id in split.database.relative_path(row)]
    assert np.abs(np.asarray(Image.open(split.database.path(rows[0])), float) - expected).mean() < 12


def test_by_area_no_place_is_on_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = walk(tmp_path / "raw", 60, step=8)
    prepared(raw, tmp_path / "town", capsys, "--split", "area")
    splits = {name: read_split(tmp_path / "town", name) for name in ("train", "val", "test")}
    utm = {name: np.concatenate([one.database.utm, one.queries.utm]) for name, one in splits.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert np.abs(np.subtract.outer(utm[one][:, 0], utm[other][:, 0])).min() > 25
    assert sum(map(len, utm.values())) > 48


def test_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    for part, metres in (
        ("train/database", 0),
        ("train/queries", 5),
        ("test/database", 500),
        ("test/queries_night", 505),
    ):
        (raw / part).mkdir(parents=True)
        for number in range(2):
            picture(number).save(raw / part / f"{number}.jpg", exif=exif(along(metres + number)))
    prepared(raw, tmp_path / "town", capsys, "--split", "hand")
    assert len(read_split(tmp_path / "town", "test", "queries_night").queries) == 2
    picture(0).save(raw / "train/database/near.jpg", exif=exif(along(495)))
    said = prepared(raw, tmp_path / "other", capsys, "--split", "hand", status=2)
    assert "train/database/near.jpg (train)" in said and "5 m apart" in said and said.count("\n") == 1
    prepared(raw, tmp_path / "other", capsys, "--split", "hand", "--buffer", "0")


def test_one_zone_for_all_and_far_ones_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(8):
        picture(number).save(raw / f"{number}.jpg", exif=exif((50.0, 5.9995 + 0.0002 * number)))
    prepared(raw, tmp_path / "town", capsys)
    split = read_split(tmp_path / "town", "test")
    assert set(split.database.zone.tolist()) | set(split.queries.zone.tolist()) == {32}
    assert main(["verify", str(tmp_path / "town")]) == 0
    picture(9).save(raw / "far.jpg", exif=exif((40.0, -74.0)))
    assert "too far apart" in prepared(raw, tmp_path / "other", capsys, status=2)


def test_photographs_of_telephones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Real HEIC with GPS, one of them lying, become upright JPEG at their positions."""
    heif = pytest.importorskip("pillow_heif")
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(4):
        place = exif(along(30.0 * number), time=START, heading=90.0, altitude=12.5, turn=6 if number == 1 else 1)
        # Written so, the file says itself that it lies, as those of telephones do.
        heif.from_pillow(picture(number, (96, 64))).save(raw / f"IMG_{number}.HEIC", exif=place.tobytes())
    (raw / "IMG_9.HEIC").write_bytes((raw / "IMG_0.HEIC").read_bytes()[:400])
    with caplog.at_level("INFO"):
        root = Path(prepared(raw, tmp_path / "town", capsys).strip())
    assert "4 by EXIF" in caplog.text and "HEIC photographs left out" not in caplog.text
    assert "nothing says where they were taken: IMG_9.HEIC" in caplog.text
    split = read_split(root, "test")
    assert (len(split.database), len(split.queries)) == (3, 1)
    sizes = {}
    for table in (split.database, split.queries):
        for row in range(len(table)):
            name = parse_name(table.relative_path(row))
            number = int(name.pano_id.rpartition("_")[2])
            expected = from_latitude_longitude(*along(30.0 * number))
            assert np.hypot(name.utm_east - expected.east, name.utm_north - expected.north) < 0.05
            assert (name.heading, name.height) == (90, 12.5)
            with Image.open(table.path(row)) as image:
                assert image.format == "JPEG"
                sizes[number] = image.size
                if number == 0:
                    off = np.asarray(image, float) - np.asarray(picture(0, (96, 64)), float)
                    assert np.abs(off).mean() < 12
    assert sizes == {0: (96, 64), 1: (64, 96), 2: (96, 64), 3: (96, 64)}


def test_what_cannot_be_used_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    raw = walk(tmp_path / "raw", 4)
    picture(0).save(raw / "nowhere.jpg")
    for number in range(3):
        (raw / f"{number}.heic").write_bytes(b"x")
    (raw / "film.mp4").write_bytes(b"x")
    with caplog.at_level("INFO"):
        prepared(raw, tmp_path / "town", capsys)
    text = caplog.text
    assert "1 left out, nothing says where they were taken: nowhere.jpg" in text
    assert "3 HEIC photographs left out. Expected pillow-heif" in text and "no track beside it" in text
    assert "no such folder" in prepared(tmp_path / "absent", tmp_path / "other", capsys, status=2)
    (tmp_path / "empty").mkdir()
    assert "no picture with a position" in prepared(tmp_path / "empty", tmp_path / "other", capsys, status=2)
    assert main(["prepare", "folder", "--raw", str(raw)]) == 2 and "--name" in capsys.readouterr().err
    assert main(["prepare", "synthetic_city", "--name", "x"]) == 2 and "--name" in capsys.readouterr().err
