"""Photographs without coordinates, and the latitude and longitude of what they are matched with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgbench.data import DataOptions, read_folder
from vgbench.data.photos import PhotosOptions, read_photos_splits
from vgbench.data.utm import from_latitude_longitude, latitude_longitude, zones
from vgbench.errors import UserError

PLACES = {"cambridge": (52.2047, 0.1240), "sydney": (-33.8568, 151.2153), "quito": (-0.2202, -78.5123)}


def save(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 40)).save(path)
    return path


def protocol_name(east: float, north: float, zone: str = "", latitude: str = "", longitude: str = "") -> str:
    number, letter = (zone[:-1], zone[-1]) if zone else ("", "")
    return f"@{east:010.2f}@{north:010.2f}@{number}@{letter}@{latitude}@{longitude}@@@@@@@@@.jpg"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("said", ["zone", "degrees"])
def test_positions_become_degrees_by_the_zone_or_by_the_degrees_of_the_name(
    tmp_path: Path, place: str, said: str
) -> None:
    latitude, longitude = PLACES[place]
    utm = from_latitude_longitude(latitude, longitude)
    by_zone = {"zone": f"{utm.zone}{utm.letter}"}
    by_degrees = {"latitude": f"{latitude:.5f}", "longitude": f"{longitude:.5f}"}
    save(tmp_path / protocol_name(utm.east, utm.north, **(by_zone if said == "zone" else by_degrees)))
    table = read_folder(tmp_path)
    zone = zones(table, np.zeros(3, np.int64))
    assert zone.tolist() == [f"{utm.zone}{utm.letter}"] * 3
    near = np.array([utm.east, utm.north]) + np.array([[0, 0], [100, 0], [0, 100]])
    found = latitude_longitude(near, zone)
    np.testing.assert_allclose(found[0], [latitude, longitude], atol=1e-7)
    assert found[1, 1] > longitude and found[2, 0] > latitude
    np.testing.assert_allclose(np.abs(found[1:] - found[0]).max(1), [100 / 111320 / np.cos(np.radians(latitude)),
                               100 / 111000], rtol=0.02)  # fmt: skip


@pytest.mark.parametrize("name", [
    protocol_name(1160, 0), protocol_name(1160, 0, "61N"), protocol_name(1160, 0, "31I"),
    protocol_name(1160, 0, latitude="95.0", longitude="7.0"), "@0001160.00@0000000.00@31@@@@@@@@@@@@.jpg",
])  # fmt: skip
def test_without_a_zone_that_exists_there_are_no_degrees(tmp_path: Path, name: str) -> None:
    save(tmp_path / name)
    zone = zones(read_folder(tmp_path), np.array([0]))
    assert zone.tolist() == [""] and np.isnan(latitude_longitude(np.zeros((1, 2)), zone)).all()


def test_any_folder_of_pictures_is_read(tmp_path: Path) -> None:
    save(tmp_path / "set/images/test/database" / protocol_name(1, 2))
    photos = tmp_path / "my photos"
    for name, size in (("a.JPG", (40, 30)), ("deep/er/b.png", (7, 900)), ("c.jpeg", (301, 200))):
        save(photos / name, size)
    (photos / "notes.txt").write_text("no picture")
    options = DataOptions(queries_folder=(str(photos),), num_workers=0)
    [split] = read_photos_splits(options, tmp_path / "set", PhotosOptions(no_labels=True), "test")
    assert sorted(split.queries.relative_paths()) == ["a.JPG", "c.jpeg", "deep/er/b.png"]
    assert np.isnan(split.queries.utm).all() and len(split.database) == 1


def test_bad_folders_and_pictures_are_one_line(tmp_path: Path) -> None:
    root = tmp_path / "set"
    save(root / "images/test/database" / protocol_name(1, 2))

    def read(folder: str, on_bad_image: str = "error") -> int:
        options = DataOptions(queries_folder=(str(tmp_path / folder),), num_workers=0, on_bad_image=on_bad_image)
        return len(read_photos_splits(options, root, PhotosOptions(no_labels=True), "test")[0].queries)

    with pytest.raises(UserError, match=r"--queries_folder .*absent: no such folder"):
        read("absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"--queries_folder .*empty: no images in it"):
        read("empty")
    save(tmp_path / "some/good.png")
    (tmp_path / "some/bad.jpg").write_bytes(b"\xff\xd8 nothing")
    with pytest.raises(UserError, match=r"1 of 2 images cannot be read: bad\.jpg.*--on_bad_image skip"):
        read("some")
    assert read("some", "skip") == 1
    with pytest.raises(UserError, match="--confidence_queries -1"):
        PhotosOptions(confidence_queries=-1)
