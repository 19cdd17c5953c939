"""Every preparer on small raw trees in the published formats: names byte for byte, what becomes of raw files."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import raw_trees
from PIL import Image
from raw_trees import MAKERS
from torchvision.transforms import Resize

from datasets_vg import catalog
from datasets_vg.__main__ import main
from datasets_vg.prepare.naming import Place, at_degrees, protocol_name
from vgbench.data import parse_name, read_split
from vgbench.data.positives import GroundTruth
from vgbench.data.sequences import SequenceRules, in_sequences
from vgbench.data.walk import walk_of

EXPECTED = {
    "pitts30k": {
        "images/test/database/@0585001.25@4477123.50@17@T@040.44042@-079.99774@000829@00@@@@@@pitch1_yaw1@.jpg",
        "images/test/database/@0585008.25@4477123.50@17@T@040.44042@-079.99766@006001@47@@@@@@pitch2_yaw24@.jpg",
        "images/val/queries/@0585002.25@4477123.50@17@T@040.44042@-079.99773@003021@36@@@@@@pitch2_yaw13@.jpg",
    },
    "tokyo247": {
        "images/test/queries/@0381522.99@3946790.16@54@S@035.65786@0139.69112@00685.jpg@@@@@@@@.jpg",
        "images/test/database/@0381524.00@3946790.00@54@S@035.65786@0139.69113@6vTzbqkRuSEFcpwRsl8S75@05@@@@@@@.jpg",
    },
    "msls": {
        "images/val/queries/@0356349.90@6163920.95@33@U@055.60000@0012.72000@cph-q0@@123@@@@20190203@day_forward_cph@.jpg",
        "images/train/database/@0342498.27@6164397.97@33@U@055.60000@0012.50010@trondheim-d1@@123@@@@20190203@night_forward_trondheim@.jpg",
    },
    "san_francisco": {
        "images/test/database/@0553274.46@4183396.98@10@S@037.79639@-122.39488@11841@00@000@-12@@@@@.jpg",
        "images/test/queries/@0551000.25@4183000.75@10@S@037.79295@-122.42074@0042@@090@@@@@@.jpg",
    },
    "eynsham": {
        "images/test/database/@0610448.35@5734444.31@30@U@051.75000@-001.40000@0000@00@@@@@20070628_030641@@.jpg",
    },
    "st_lucia": {
        "images/test/database/@0499638.49@6958183.18@56@J@-27.50000@0152.99634@100909_0845_00000@@@@@@@@.jpg",
        "images/test/queries/@0499638.49@6958189.18@56@J@-27.49995@0152.99634@210809_1210_00003@@@@@@@@.jpg",
    },
    "nordland": {
        "images/test/database/@0@00000.0@@@@@0@@@@@@@@.jpg",
        "images/test/queries/@0@00004.8@@@@@2@@@@@@@@.jpg",
    },
    "nordland_vprbench": {
        "images/test/database/@0@00016.7@@@@@1@@@@@@@@.jpg",
        "images/test/queries/@0@00333.3@@@@@20@@@@@@@@.jpg",
    },
    "amstertime": {
        "images/test/database/@0@120000@@@@@0120@@@@@@@@.jpg",
        "images/test/queries/@0@1000@@@@@0001@@@@@@@@.jpg",
    },
    "sped": {"images/test/queries/@0@607000@@@@@0000607@@@@@@@@.jpg"},
    "baidu": {"images/test/queries/@0000610.50@-000020.25@@@@@img2@@@@@@@@.jpg"},
    "gsv_cities": {"Images/London/London_0000001_2015_06_380_51.5003_-0.12_pano3.JPG", "Dataframes/London.csv"},
    "tokyo_xs": {"images/test/queries/@0499638.99@6958015.36@56@J@-27.50151@0152.99634@100909_0845_03448@@@@@@@@.jpg"},
    "gsv_xs": {"images/train/Boston/@0499638.99@6958015.36@56@J@-27.50151@0152.99634@pano@@090@@@@201906@0000042@.jpg"},
    "sf_xl": {
        "images/test/queries_night/@0499638.99@6958015.36@56@J@-27.50151@0152.99634@100909_0845_03448@@@@@@@@.jpg"
    },
    "svox": {"images/train/database/@0619727.51@5736133.02@@@@@Xy7_Z@@@@@@201503@277@.jpg"},
}
"""Some of the names that each set gets, whole."""


@pytest.fixture(autouse=True)
def short_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets_vg.prepare.eynsham.FIRST_ROUND", 2)


def files_of(root: Path) -> set[str]:
    return {
        f"{here}/{name}"[len(str(root)) + 1 :] for here, _, names in os.walk(root, followlinks=True) for name in names
    }


def prepare(tmp_path: Path, name: str, *arguments: object) -> int:
    return main(["prepare", name, "--datasets_folder", str(tmp_path / "sets"), *map(str, arguments)])


def test_the_two_published_names_byte_for_byte() -> None:
    place = Place(499638.99, 6958015.36, 56, "J", -27.50151, 152.99634)
    assert (
        protocol_name(place, "100909_0845_03448")
        == "@0499638.99@6958015.36@56@J@-27.50151@0152.99634@100909_0845_03448@@@@@@@@.jpg"
    )
    place = Place(381523.71, 3946790.15, 54, "S", 35.65786, 139.69112)
    assert protocol_name(place, "00685.jpg") == "@0381523.71@3946790.15@54@S@035.65786@0139.69112@00685.jpg@@@@@@@@.jpg"


@pytest.mark.parametrize(
    ("degrees", "published"),
    [((-27.50151, 152.99634), (499638.99, 6958015.36)), ((35.65786, 139.69112), (381523.71, 3946790.15))],
)
def test_positions_agree_with_the_published_names(degrees, published) -> None:
    place = at_degrees(*degrees)
    # Five decimals are half a metre.
    assert np.hypot(place.east - published[0], place.north - published[1]) < 0.8


@pytest.mark.parametrize("name", catalog.PUBLIC)
def test_each_set_is_made_from_raw_files(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    raw = MAKERS[name](tmp_path / "raw")
    before = files_of(raw)
    assert prepare(tmp_path, name, "--raw", raw) == 0
    root = tmp_path / "sets" / name
    assert capsys.readouterr().out == f"{root}\n"
    made = files_of(root)
    assert EXPECTED.get(name, set()) <= made
    assert {"prepared.json", "TERMS.txt", "CITATION.bib"} <= made
    assert "@inproceedings{" in (root / "CITATION.bib").read_text()
    assert files_of(raw) == before
    assert not (tmp_path / "sets" / f"{name}.partial").exists()
    for path in made:
        if path.lower().endswith(".jpg"):
            with Image.open(root / path) as image:
                image.load()
                assert image.format == "JPEG"
    assert main(["verify", str(root)]) == 0


@pytest.mark.parametrize("name", catalog.PUBLIC)
def test_what_misses_is_listed_and_where_to_ask(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert prepare(tmp_path, name, "--raw", tmp_path / "empty") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {name} ") and catalog.PUBLIC[name].source in said
    assert not (tmp_path / "sets" / name).exists()


def test_repeated_it_does_nothing_and_a_finished_file_is_not_touched(tmp_path: Path) -> None:
    raw = raw_trees.nordland(tmp_path / "raw")
    assert prepare(tmp_path, "nordland", "--raw", raw) == 0
    root = tmp_path / "sets" / "nordland"
    before = {path: (root / path).stat().st_mtime_ns for path in files_of(root)}
    shutil.rmtree(raw)
    assert prepare(tmp_path, "nordland") == prepare(tmp_path, "nordland", "--raw", raw) == 0
    assert {path: (root / path).stat().st_mtime_ns for path in files_of(root)} == before


@pytest.mark.parametrize("transfer", ["link", "copy", "move"])
def test_what_becomes_of_raw_files(tmp_path: Path, transfer: str) -> None:
    raw = raw_trees.pittsburgh(tmp_path / "raw")
    view = raw / "000" / "000829_pitch1_yaw1.jpg"
    content = view.read_bytes()
    assert prepare(tmp_path, "pitts30k", "--raw", raw, "--part", "test", f"--{transfer}") == 0
    database = tmp_path / "sets" / "pitts30k" / "images" / "test" / "database"
    made = next(path for path in database.iterdir() if "000829@00" in path.name)
    assert made.read_bytes() == content
    assert made.is_symlink() == (transfer == "link")
    assert view.exists() == (transfer != "move")


def test_copies_are_not_begun_without_room_for_them(tmp_path: Path, monkeypatch, capsys) -> None:
    raw = raw_trees.pittsburgh(tmp_path / "raw")
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr("vgbench.files.shutil.disk_usage", lambda folder: usage)
    assert prepare(tmp_path, "pitts30k", "--raw", raw, "--part", "test", "--copy") == 2
    assert "pitts30k test --copy: needs" in capsys.readouterr().err
    assert not (tmp_path / "sets").exists()
    assert prepare(tmp_path, "pitts30k", "--raw", raw, "--part", "test") == 0  # links need none


def test_moved_raw_files_that_were_encoded_are_gone_at_the_end(tmp_path: Path) -> None:
    raw = raw_trees.nordland(tmp_path / "raw")
    assert prepare(tmp_path, "nordland", "--raw", raw, "--move") == 0
    assert not (raw / "summer" / "images-00001.png").exists()
    assert (raw / "summer" / "images-00002.png").exists()  # not in the list, so not in the set


@pytest.mark.parametrize("transfer", ["copy", "move"])
def test_an_interrupted_call_goes_on(tmp_path: Path, transfer: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from datasets_vg.prepare import writing

    raw = raw_trees.pittsburgh(tmp_path / "raw")
    placed = []
    place = writing.Writer._place

    def stop_after_three(self, picture, target, written):
        if len(placed) == 3:
            raise KeyboardInterrupt
        placed.append(picture)
        place(self, picture, target, written)

    monkeypatch.setattr(writing.Writer, "_place", stop_after_three)
    assert prepare(tmp_path, "pitts30k", "--raw", raw, "--part", "val", f"--{transfer}") == 130
    assert not (tmp_path / "sets" / "pitts30k").exists()
    monkeypatch.setattr(writing.Writer, "_place", place)
    assert prepare(tmp_path, "pitts30k", "--raw", raw, "--part", "val", f"--{transfer}") == 0
    split = read_split(tmp_path / "sets" / "pitts30k", "val")
    assert (len(split.database), len(split.queries)) == (8, 2)


def test_single_raw_files_that_miss_are_named_and_the_call_goes_on_when_they_are_there(tmp_path: Path, capsys) -> None:
    raw = raw_trees.pittsburgh(tmp_path / "raw")
    lost = raw / "queries_real" / "003" / "003021_pitch2_yaw13.jpg"
    lost.rename(tmp_path / "kept.jpg")
    assert prepare(tmp_path, "pitts30k", "--raw", raw, "--part", "test") == 2
    assert f"1 raw files are not there: {lost}" in capsys.readouterr().err
    assert not (tmp_path / "sets" / "pitts30k").exists()
    (tmp_path / "kept.jpg").rename(lost)
    assert prepare(tmp_path, "pitts30k", "--raw", raw, "--part", "test") == 0


def test_unreadable_raw_images_are_left_out_and_all_listed(tmp_path: Path, caplog) -> None:
    raw = raw_trees.nordland(tmp_path / "raw")
    (raw / "winter" / "images-00003.png").write_bytes(b"no image")
    assert prepare(tmp_path, "nordland", "--raw", raw) == 0
    assert "1 raw images cannot be read and are left out" in caplog.text
    assert "images-00003.png" in (tmp_path / "sets" / "nordland.partial" / "test_unreadable.txt").read_text()


def test_parts_are_added_one_after_the_other(tmp_path: Path) -> None:
    raw = raw_trees.pittsburgh(tmp_path / "raw")
    root = tmp_path / "sets" / "pitts30k"
    for part in ("val", "train"):
        assert prepare(tmp_path, "pitts30k", "--raw", raw, "--part", part) == 0
    assert sorted(path.name for path in (root / "images").iterdir()) == ["train", "val"]
    assert json.loads((root / "prepared.json").read_text())["parts"] == ["val", "train"]


def test_counts_that_are_not_the_published_ones_are_told_with_how_sure_they_are(tmp_path: Path, caplog) -> None:
    assert prepare(tmp_path, "sped", "--raw", raw_trees.sped(tmp_path / "raw")) == 0
    said = caplog.text
    assert "test/database has 2 images, -605 against the published 607 (counted from a published list)" in said


def test_archives_among_the_raw_files_are_unpacked(tmp_path: Path) -> None:
    raw = raw_trees.pittsburgh(tmp_path / "unpacked")
    packed = tmp_path / "raw"
    packed.mkdir()
    for folder in ("000", "006", "queries_real"):
        with tarfile.open(packed / f"{folder}.tar", "w") as tar:
            tar.add(raw / folder, folder)
    with tarfile.open(packed / "netvlad_v100_datasets.tar.gz", "w:gz") as tar:
        tar.add(raw / "datasets", "datasets")
    (packed / "holiday.zip").write_bytes(b"not ours, and no archive")
    assert prepare(tmp_path, "pitts30k", "--raw", packed) == 0
    assert len(read_split(tmp_path / "sets" / "pitts30k", "train").database) == 8
    assert sorted(path.suffix for path in packed.iterdir()) == [".gz", ".tar", ".tar", ".tar", ".zip"]


def test_an_archive_inside_an_archive(tmp_path: Path) -> None:
    raw = raw_trees.amstertime(tmp_path / "unpacked")
    with zipfile.ZipFile(tmp_path / "AmsterTime-v1.0.zip", "w") as inner:
        for path in sorted(raw.rglob("*.*g")):
            inner.write(path, path.relative_to(raw))
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw" / "amstertime.zip", "w") as outer:
        outer.write(tmp_path / "AmsterTime-v1.0.zip", "AmsterTime-v1.0.zip")
    assert prepare(tmp_path, "amstertime", "--raw", tmp_path / "raw") == 0
    assert len(read_split(tmp_path / "sets" / "amstertime", "test").queries) == 2


@pytest.mark.parametrize("name", ["st_lucia", "pitts30k", "eynsham"])
def test_trees_that_others_made_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    raw = MAKERS[name](tmp_path / "raw")
    assert prepare(tmp_path, name, "--raw", raw) == 0
    made = tmp_path / "sets" / name
    tree = shutil.copytree(made / "images", tmp_path / "downloader" / "datasets" / name / "images", symlinks=False)
    shutil.rmtree(made)
    for split in tree.iterdir():  # as SVOX calls it
        (split / "database").rename(split / "gallery")
    assert prepare(tmp_path, name, "--raw", tmp_path / "downloader") == 0
    assert len(read_split(made, "test").database) == len(list((tree / "test" / "gallery").iterdir()))


def test_pittsburghs_ready_zip_is_read_by_its_lists(tmp_path: Path) -> None:
    raw = raw_trees.pittsburgh(tmp_path / "raw")
    ready = tmp_path / "ready" / "pitts30k-val"
    for level, folders in (("database", ("000", "006")), ("queries", ("queries_real",))):
        paths = [path for folder in folders for path in sorted((raw / folder).rglob("*.jpg"))]
        for path in paths:
            (ready / level).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, ready / level / path.name)
        short = {"database": "db", "queries": "q"}[level]
        np.save(ready / f"pitts30k-val_{short}Images.npy", np.array([f"{level}/{path.name}" for path in paths]))
    shutil.copytree(raw / "datasets", tmp_path / "ready" / "datasets")
    assert prepare(tmp_path, "pitts30k", "--raw", tmp_path / "ready", "--part", "val") == 0
    assert {path for path in EXPECTED["pitts30k"] if "/val/" in path} <= files_of(tmp_path / "sets" / "pitts30k")


def test_among_all_downloads_the_set_of_that_name_is_taken(tmp_path: Path, capsys) -> None:
    raw_trees.in_protocol(tmp_path / "raw", "sf_xs")
    assert prepare(tmp_path, "tokyo_xs", "--raw", tmp_path / "raw") == 2  # that is another set
    raw_trees.in_protocol(tmp_path / "raw", "tokyo_xs")
    raw_trees.picture(tmp_path / "raw" / "a" / "test" / "queries" / "@1@2@.jpg")
    assert prepare(tmp_path, "tokyo_xs", "--raw", tmp_path / "raw") == 0
    assert len([path for path in files_of(tmp_path / "sets" / "tokyo_xs") if path.endswith(".jpg")]) == 2
    assert EXPECTED["tokyo_xs"] <= files_of(tmp_path / "sets" / "tokyo_xs")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("@1@2@.jpg", "@1@2@.jpg"),
        ("@1@2@30@U@51.7@-1.2@p@@90@@@@2019@n@.jpg", "@1@2@30@U@51.7@-1.2@p@@90@@@@2019@n@.jpg"),
        ("@1@2@201503@p@277@@@@.JPG", "@1@2@@@@@p@@@@@@201503@277@.JPG"),
        ("@1@2@20150304@p@.png", "@1@2@@@@@p@@@@@@20150304@@.png"),
        ("@1@2@oxford@p@277@12@.jpg", "@1@2@@@@@p@@@@@@@277_12_oxford@.jpg"),
    ],
)
def test_an_older_order_of_fields_is_put_right_and_loses_nothing(tmp_path: Path, name: str, expected: str) -> None:
    raw_trees.picture(tmp_path / "raw" / "svox" / "images" / "test" / "gallery" / name)
    assert prepare(tmp_path, "svox", "--raw", tmp_path / "raw") == 0
    [made] = (tmp_path / "sets" / "svox" / "images" / "test" / "database").iterdir()
    assert made.name == expected


def test_nordland_of_vprbench_is_one_frame_whatever_it_is_made_of(tmp_path: Path) -> None:
    """VPR-Bench's positives: of query k the frames 10 k - 1, 10 k and 10 k + 1, as far as they are there."""
    seasons = tmp_path / "seasons"
    for season in ("summer", "winter"):
        for i in range(1, 22):
            raw_trees.picture(seasons / season / f"images-{i:05d}.png", i)
    (seasons / "cleanImageNames.txt").write_text("".join(f"images-{i:05d}.png\n" for i in range(1, 22)))
    assert prepare(tmp_path, "nordland", "--raw", seasons) == 0
    sources = {
        "ready": raw_trees.nordland_vprbench(tmp_path / "ready"),
        "seasons": seasons,
        "made": tmp_path / "sets" / "nordland",
    }
    names = {}
    for kind, raw in sources.items():
        arguments = ["prepare", "nordland_vprbench", "--raw", str(raw), "--datasets_folder", str(tmp_path / kind)]
        assert main(arguments) == 0
        split = read_split(tmp_path / kind / "nordland_vprbench", "test")
        frames = [
            [int(parse_name(path).pano_id) for path in table.relative_paths()]
            for table in (split.database, split.queries)
        ]
        names[kind] = frames
        by_metres = split.truth.positives(split.queries, split.database, 25.0)
        by_frames = GroundTruth(frames=1).positives(split.queries, split.database, 1.0)
        assert by_metres.indptr.tolist() == by_frames.indptr.tolist()
        for row, frame in enumerate(frames[1]):
            found = {frames[0][i] for i in by_metres.indices[by_metres.indptr[row] : by_metres.indptr[row + 1]]}
            assert found == {frame - 1, frame, frame + 1} & set(frames[0])
    assert sorted(names["ready"][0]) == list(range(21)) and sorted(names["ready"][1]) == [0, 10, 20]
    assert names["ready"] == names["seasons"] == names["made"]


def test_msls_writes_both_validation_protocols(tmp_path: Path) -> None:
    assert prepare(tmp_path, "msls", "--raw", raw_trees.msls(tmp_path / "raw"), "--part", "val") == 0
    root = tmp_path / "sets" / "msls"
    every, official = (read_split(root, "test", folder).queries for folder in ("queries", "queries_740"))
    # Of four: one is a panorama, one has no database image within 25 m.
    assert (len(every), len(official)) == (6, 4)
    assert {path.partition("-q")[2][0] for path in official.relative_paths()} == {"0", "1"}
    assert (root / "images" / "test").is_symlink()
    link = next((root / "images" / "val" / "queries_740").iterdir())
    assert link.readlink() == Path("..", "queries", link.name)


def test_msls_keeps_the_frames_of_its_sequences(tmp_path: Path) -> None:
    raw = raw_trees.msls(tmp_path / "raw")
    assert prepare(tmp_path, "msls", "--raw", raw, "--part", "val") == 0
    split = read_split(tmp_path / "sets" / "msls", "test")
    keys = [
        [[parse_name(table.frames.relative_path(frame)).pano_id for frame in window] for window in table.members]
        for table in (in_sequences(one, SequenceRules(2)) for one in (split.database, split.queries))
    ]
    # Frames run backwards, and the panorama q2 is missing between q3 and q1.
    assert sorted(keys[0]) == [[f"{city}-d{i + 1}", f"{city}-d{i}"] for city in ("cph", "sf") for i in (0, 1)]
    assert sorted(keys[1]) == [[f"{city}-q1", f"{city}-q0"] for city in ("cph", "sf")]


def test_msls_without_seq_info_has_no_sequences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = raw_trees.msls(tmp_path / "raw")
    (raw / "train_val" / "sf" / "query" / "seq_info.csv").unlink()
    assert prepare(tmp_path, "msls", "--raw", raw, "--part", "val") == 0
    split = tmp_path / "sets" / "msls" / "images" / "val"
    assert (split / "database_sequences.csv").is_file() and not (split / "queries_sequences.csv").exists()
    assert "queries_sequences.csv is not made: 1 cities have no query/seq_info.csv" in caplog.text


def test_msls_takes_the_published_keys_where_there_is_no_index(tmp_path: Path) -> None:
    raw = raw_trees.msls(tmp_path / "raw", ["cph", "sf"])
    for index in raw.rglob("subtask_index.csv"):
        index.unlink()
    (raw / "key_mslsval.txt").write_text("sf-q0 sf-q1 cph-q3")
    assert prepare(tmp_path, "msls", "--raw", raw, "--part", "val") == 0
    assert len(read_split(tmp_path / "sets" / "msls", "val", "queries_740").queries) == 3


def test_msls_challenge_cities_are_datasets_of_their_own(tmp_path: Path) -> None:
    cities = ["miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala"]
    raw = raw_trees.msls_challenge(tmp_path / "raw", cities)
    assert prepare(tmp_path, "msls", "--raw", raw, "--part", "challenge") == 0
    split = read_split(tmp_path / "sets" / "msls" / "challenge" / "athens", "test")
    assert list(split.queries.relative_paths()) == [
        "@0500000.00@0001000.00@@@@@athens-query@@@@@@@day_sideways_athens@.jpg"
    ]
    assert walk_of(split.queries, "auto").by == walk_of(split.database, "auto").by == "file"


def test_st_lucia_keeps_a_frame_every_five_metres(tmp_path: Path) -> None:
    assert prepare(tmp_path, "st_lucia", "--raw", raw_trees.st_lucia(tmp_path / "raw")) == 0
    database = tmp_path / "sets" / "st_lucia" / "images" / "test" / "database"
    kept = {path.name.split("@")[7]: path for path in database.iterdir()}
    assert sorted(kept) == [f"100909_0845_{frame:05d}" for frame in (0, 3, 6, 9)]
    for name, path in kept.items():  # each is the frame that its name says
        assert abs(np.asarray(Image.open(path), float).mean() - 20 * int(name[-5:])) < 4


def test_tokyo_queries_are_made_smaller_as_torchvision_does_it(tmp_path: Path) -> None:
    raw = raw_trees.tokyo247(tmp_path / "raw")
    assert prepare(tmp_path, "tokyo247", "--raw", raw, "--part", "queries") == 0
    [made] = (tmp_path / "sets" / "tokyo247" / "images" / "test" / "queries").iterdir()
    Resize(480)(Image.open(raw / "247query_subset_v2" / "00685.jpg")).save(tmp_path / "expected.jpg")
    assert made.read_bytes() == (tmp_path / "expected.jpg").read_bytes()


def test_sf_xl_brings_its_lists_and_its_small_part_stands_apart(tmp_path: Path) -> None:
    raw = raw_trees.in_protocol(tmp_path / "raw" / "processed", "sf_xl").parent
    [image] = (raw / "processed" / "test" / "database").rglob("*.jpg")
    (raw / "processed" / "test" / "database_images_paths.txt").write_text(f"test/database/37.7/{image.name}\n")
    shutil.copytree(raw_trees.in_protocol(tmp_path / "xs", "sf_xs") / "sf_xs", raw / "small")
    assert prepare(tmp_path, "sf_xl", "--raw", raw) == 0
    assert prepare(tmp_path, "sf_xl", "--raw", raw, "--part", "small") == 0
    root = tmp_path / "sets" / "sf_xl"
    assert (root / "images" / "test" / "database_images_paths.txt").is_file()
    assert len(read_split(root, "test", "queries_v2").database) == 1
    assert len(read_split(root / "small", "val").queries) == 1


def test_versions_of_one_set_are_not_mixed(tmp_path: Path, capsys) -> None:
    raw = raw_trees.gsv_cities(tmp_path / "raw")
    assert prepare(tmp_path, "gsv_cities", "--raw", raw, "--part", "light") == 0
    assert prepare(tmp_path, "gsv_cities", "--raw", raw, "--part", "full") == 2
    assert "take the same place" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pitts30k"], "Ask the authors of NetVLAD"),
        (["pitts30k"], "train: 000 .. 006, queries_real, datasets/pitts30k_train.mat"),
        (["pitts30k"], "Without asking: python3 -m datasets_vg prepare pitts30k --part val"),
        (["pitts30k", "--part", "tset"], "--part tset"),
        (["pitts30k", "--images", "5"], "--images"),
        (["pitts30k", "--raw", "nowhere"], "--raw nowhere"),
        (["synthetic_city", "--raw", "."], "--raw"),
        (["sped", "--copy"], "--copy: changes nothing"),
        (["sped", "--raw", ".", "--keep_downloads"], "--keep_downloads: changes nothing"),
        (["folder", "--raw", ".", "--name", "a", "--part", "b"], "--part: changes nothing"),
        (["folder", "--raw", ".", "--name", "a", "--images", "7"], "--images: is of `prepare synthetic_city`"),
        (["sped", "--name", "a"], "--name"),
        (["pits30k"], "Did you mean pitts30k"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, arguments: list[str], told: str, capsys) -> None:
    assert prepare(tmp_path, *arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and told in error


def test_a_folder_that_somebody_else_made_is_left_alone(tmp_path: Path, capsys) -> None:
    raw_trees.picture(tmp_path / "sets" / "sped" / "images" / "test" / "queries" / "@1@2@.jpg")
    assert prepare(tmp_path, "sped") == 0
    assert prepare(tmp_path, "sped", "--raw", raw_trees.sped(tmp_path / "raw")) == 2
    assert "was not made by this command" in capsys.readouterr().err
    assert files_of(tmp_path / "sets") == {"sped/images/test/queries/@1@2@.jpg"}


def test_two_raw_files_of_one_name_are_refused(tmp_path: Path, capsys) -> None:
    raw = raw_trees.nordland(tmp_path / "raw")
    raw_trees.picture(raw / "SPEDTEST" / "ref" / "7.jpg")
    raw_trees.picture(raw / "SPEDTEST" / "ref" / "7.jpeg")
    raw_trees.picture(raw / "SPEDTEST" / "query" / "7.jpg")
    assert prepare(tmp_path, "sped", "--raw", raw) == 2
    assert "as another raw file does" in capsys.readouterr().err
