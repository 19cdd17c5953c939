from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.data.protocol import ImageName, format_name, parse_name, read_folder, read_split
from vgbench.errors import UserError

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="@/"), max_size=12)
CENTIMETRES = st.integers(-(10**9), 10**9).map(lambda n: n / 100)
NAMES = st.builds(
    ImageName,
    utm_east=CENTIMETRES,
    utm_north=CENTIMETRES,
    zone_number=st.none() | st.integers(1, 60),
    zone_letter=st.sampled_from(["", "T", "U"]),
    latitude=st.none() | st.integers(-(90 * 10**5), 90 * 10**5).map(lambda n: n / 10**5),
    longitude=st.none() | st.integers(-(180 * 10**5), 180 * 10**5).map(lambda n: n / 10**5),
    pano_id=TEXT,
    tile_num=TEXT,
    heading=st.none() | st.integers(0, 359).map(float),
    pitch=st.none() | st.floats(-90, 90),
    roll=st.none() | st.floats(-180, 180),
    height=st.none() | st.floats(-500, 9000),
    timestamp=TEXT,
    note=TEXT,
    extension=st.sampled_from([".jpg", ".JPG", ".jpeg", ".PNG"]),
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def name_at(east: float, note: str = "") -> str:
    return format_name(ImageName(east, 4000000.0, note=note))


def paths_of(folder: Path) -> list[str]:
    return list(read_folder(folder).relative_paths())


@given(NAMES)
def test_a_name_survives_writing_and_reading(name: ImageName) -> None:
    assert parse_name(format_name(name)) == name


def test_format_name_writes_the_published_form() -> None:
    name = ImageName(
        303349.9, 5787756.19, 31, "U", 52.20511, -0.12202, "0163", "01", 359.7, -5.0, None, 2.5, "2013", "x"
    )
    assert format_name(name) == "@0303349.90@5787756.19@31@U@052.20511@-000.12202@0163@01@000@-05@@2.5@2013@x@.jpg"


@pytest.mark.parametrize(
    "changes", [{"note": "a@b"}, {"pano_id": "a/b"}, {"utm_east": math.nan}, {"utm_north": math.inf}]
)
def test_format_name_refuses_what_could_not_be_read_back(changes: dict[str, object]) -> None:
    with pytest.raises(UserError):
        format_name(dataclasses.replace(ImageName(1.0, 2.0), **changes))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("@1@2@.jpg", ImageName(1, 2)),
        ("@1@2.jpg", ImageName(1, 2)),
        ("@-1.5@-0002.25@@@@@@@@@@@@@.JPEG", ImageName(-1.5, -2.25, extension=".JPEG")),
        ("some/@folder@/@1@2@@@@@pano@@@@@@@@.png", ImageName(1, 2, pano_id="pano", extension=".png")),
        ("@1@2@@@@@@@north@@@@@@.jpg", ImageName(1, 2)),
        ("@1@2@@@@@@@@@@@@note.jpg", ImageName(1, 2, note="note")),
        ("@1@2@@@@@@@@@@@@extra@place@.jpg", ImageName(1, 2, note="place")),
        ("@1@2@@@@@p.jpg@@@@@@@n.png@.jpg", ImageName(1, 2, pano_id="p.jpg", note="n.png")),
        ("@1@2@", ImageName(1, 2)),
        ("@1@2", ImageName(1, 2)),
    ],
)
def test_parse_name_takes_what_is_there(name: str, expected: ImageName) -> None:
    assert parse_name(name) == expected


@pytest.mark.parametrize("name", ["a.jpg", "@@@.jpg", "@1@.jpg", "@nan@2@.jpg", "@1@inf@.jpg", "@east@north@.jpg", ""])
def test_parse_name_needs_coordinates(name: str) -> None:
    with pytest.raises(UserError, match="no UTM coordinates"):
        parse_name(name)


def test_read_folder_takes_every_depth_and_extension_and_nothing_else(tmp_path: Path) -> None:
    wanted = ["@1@2@.jpg", "b/@1@3@.JPEG", "b/c/d/@1@4@.PnG", "@5@6@.JPG"]
    touch(tmp_path, *wanted, "notes.txt", "b/@1@2@.gif", "._@1@2@.jpg", ".thumbs/@1@2@.jpg", "@1@2@jpg")
    assert paths_of(tmp_path) == sorted(wanted)


@given(
    st.sets(
        st.lists(st.sampled_from(["a", "a-", "a.b", "a0", "ä", "A"]), min_size=1, max_size=3).map(tuple), max_size=12
    )
)
def test_walking_is_sorted_by_whole_path(
    tmp_path_factory: pytest.TempPathFactory, folders: set[tuple[str, ...]]
) -> None:
    root = tmp_path_factory.mktemp("walk")
    names = ["@1@2@.jpg", *("/".join([*folder, "@1@2@.jpg"]) for folder in folders)]
    touch(root, *names)
    assert paths_of(root) == sorted(names)


def test_fields_reach_the_table(tmp_path: Path) -> None:
    name = ImageName(-12.5, 7.25, heading=270.0, timestamp="20190203_040506", note="Zürich 夜")
    touch(tmp_path, format_name(name), "@1@2@@@@@@@@@@@@@.jpg")
    table = read_folder(tmp_path)
    row = list(table.relative_paths()).index(format_name(name))
    assert table.utm[row].tolist() == [-12.5, 7.25] and table.utm.dtype == np.float64
    assert table.heading[row] == 270 and table.timestamp(row) == "20190203_040506"
    assert table.note(row) == table.place_id(row) == "Zürich 夜"
    assert np.isnan(table.heading[1 - row]) and table.timestamp(1 - row) == "" and table.note(1 - row) == ""
    assert table.path(row) == tmp_path / format_name(name) and table.path(row).is_file()


def test_unicode_folders_of_either_normal_form_and_raw_bytes(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "Málaga") + "/@1@2@.jpg" for form in ("NFC", "NFD")]
    touch(tmp_path, *names)
    with contextlib.suppress(OSError):  # a file system may take Unicode only
        touch(tmp_path, os.fsdecode(b"caf\xe9/@1@2@.jpg"))
    table = read_folder(tmp_path)
    assert len(table) >= 2 and all(table.path(row).is_file() for row in range(len(table)))


def test_linked_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/@1@2@.jpg", "set/own/@3@4@.jpg")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "own" / "circle").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "@5@6@.jpg").symlink_to(tmp_path / "elsewhere" / "@1@2@.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert paths_of(tmp_path / "link") == ["@5@6@.jpg", "linked/@1@2@.jpg", "own/@3@4@.jpg"]


@pytest.mark.parametrize(
    "prefix", ["", "./", "database/", "images/test/database/", "/home/someone/sets/toy/images/test/database/"]
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_an_index_wins_over_walking(tmp_path: Path, prefix: str, ending: str) -> None:
    folder = tmp_path / "images" / "test" / "database"
    touch(folder, "b/@1@2@.jpg", "@3@4@.jpg", "@5@6@.jpg")
    lines = [prefix + "b/@1@2@.jpg", prefix + "@3@4@.jpg", "", "README.txt"]
    (folder.parent / "database_images_paths.txt").write_bytes(ending.join(lines).encode("utf-8-sig"))
    assert paths_of(folder) == ["@3@4@.jpg", "b/@1@2@.jpg"]


def test_an_index_may_mix_forms_be_unsorted_and_repeat(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "database"
    touch(folder, "@1@2@.jpg", "@3@4@.jpg", "database/@5@6@.jpg", "w\\x/@7@8@.jpg")
    lines = ["database/database/@5@6@.jpg", "@3@4@.jpg", "database/@1@2@.jpg", "@3@4@.jpg", "w\\x/@7@8@.jpg"]
    (tmp_path / "database_images_paths.txt").write_text("\n".join(lines))
    assert paths_of(folder) == ["@1@2@.jpg", "@3@4@.jpg", "database/@5@6@.jpg", "w\\x/@7@8@.jpg"]
    assert "1 lines name an image again" in caplog.text


def test_an_index_is_read_without_looking_for_each_file(tmp_path: Path) -> None:
    touch(tmp_path, "database/@1@2@.jpg")
    (tmp_path / "database_images_paths.txt").write_text("".join(f"database/@{i}@2@.jpg\n" for i in range(1, 500)))
    assert len(read_folder(tmp_path / "database")) == 499


def test_an_index_of_other_files_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "database/@1@2@.jpg")
    (tmp_path / "database_images_paths.txt").write_text("train/@9@9@.jpg\n")
    with pytest.raises(UserError, match=r"database_images_paths\.txt: lists train/@9@9@\.jpg"):
        read_folder(tmp_path / "database")


def test_names_without_coordinates_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "@1@2@.jpg", *(f"holiday{i}.jpg" for i in range(5)))
    with pytest.raises(UserError, match=r"holiday0\.jpg, holiday1\.jpg, holiday2\.jpg and 2 more") as raised:
        read_folder(tmp_path)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)


def test_an_empty_folder_and_an_empty_index_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "toy" / "images" / "test" / "queries"
    touch(folder, "README.txt")
    with pytest.raises(UserError, match=r"queries: no images .* datasets_vg list"):
        read_folder(folder)
    touch(folder, "@1@2@.jpg")
    (folder.parent / "queries_images_paths.txt").touch()
    with pytest.raises(UserError, match=r"queries_images_paths\.txt"):
        read_folder(folder)


def test_read_split_reads_database_and_chosen_queries(dataset: Path) -> None:
    test = dataset / "images" / "test"
    touch(test, "queries_night/@1@2@.jpg")
    split = read_split(dataset, "test")
    assert (split.name, split.root, len(split.database), len(split.queries)) == ("test", dataset, 12, 5)
    assert split.database.root == test / "database"
    assert len(read_split(str(dataset), "test", "queries_night").queries) == 1


@pytest.mark.parametrize(
    ("name", "split", "queries", "said"),
    [
        ("nowhere", "test", "queries", "nowhere: no such dataset"),
        ("toy", "train", "queries", r"train: no such split\. There are: test\."),
        ("toy", "test", "queries_snow", r"queries_snow: no such folder of queries\. There are: queries\."),
    ],
)
def test_what_is_missing_is_named(dataset: Path, name: str, split: str, queries: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        read_split(dataset.parent / name, split, queries)
    assert "python3 -m datasets_vg list" in str(raised.value) and "prepare" not in str(raised.value)


def test_a_missing_database_is_named(dataset: Path) -> None:
    (dataset / "images" / "test" / "database").rename(dataset / "elsewhere")
    with pytest.raises(UserError, match=r"database: no such folder"):
        read_split(dataset, "test")


def test_real_names_survive_reading_and_writing(real_photographs: Path) -> None:
    split = read_split(real_photographs / "cambridge", "test")
    assert (len(split.database), len(split.queries)) == (304, 152)
    assert np.unique(split.database.heading).tolist() == [0, 90, 180, 270]
    night = read_split(real_photographs / "gardens_point", "test", "queries_night").queries
    assert {night.note(row) for row in range(200)} == {"night_right"} and np.isnan(night.heading).all()
    for table in (split.database, split.queries, night):
        assert all(format_name(parse_name(path)) == path for path in table.relative_paths())
