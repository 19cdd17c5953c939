"""verify, stats, map and list on sets of places; faults that must all be named; the commands of docs/datasets.md."""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import raw_trees

from datasets_vg import catalog
from datasets_vg.__main__ import _parser, main

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"


def rows_of(table: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


@pytest.fixture
def gsv(tmp_path: Path) -> Path:
    return raw_trees.gsv_cities(tmp_path / "gsv_cities")


@pytest.fixture
def xs(tmp_path: Path) -> Path:
    raw_trees.in_protocol(tmp_path, "gsv_xs")
    return tmp_path / "gsv_xs"


def test_gsv_cities_has_a_row_a_city(gsv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(gsv)]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["train/London"][0] == "4" and rows["train/London"][-1] == "2"
    assert rows["train, 2 cities"][0] == "8" and rows["train, 2 cities"][-1] == "4"


def test_gsv_xs_as_published_too(xs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(xs)]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["train/Boston"][0] == "1" and rows["train, 2 cities"][-1] == "2"
    assert main(["verify", str(xs)]) == 0


@pytest.mark.parametrize("name", ["gsv", "xs"])
def test_a_map_has_a_panel_a_city(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(name)
    assert main(["map", str(root), "--output", str(tmp_path / "map.svg")]) == 0
    drawn = ElementTree.parse(tmp_path / "map.svg").getroot()
    texts = [text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert len(texts) == 2 and texts[1].startswith("London: ")


@pytest.mark.parametrize("arguments", [[], ["--names_only"]])
def test_an_image_of_a_data_frame_that_is_not_there(gsv: Path, arguments: list[str], capsys) -> None:
    assert main(["verify", str(gsv), *arguments]) == 0
    assert "train: 8 images" in capsys.readouterr().out
    lost = sorted((gsv / "Images" / "London").iterdir())[0]
    lost.unlink()
    assert main(["verify", str(gsv), *arguments]) == 1
    printed = capsys.readouterr().out
    assert lost.name in printed and printed.endswith("1 faults\n")


def test_every_bad_name_and_every_broken_image_is_named_in_one_pass(tmp_path: Path, capsys) -> None:
    for folder in ("database", "queries"):
        for i in range(12):
            raw_trees.picture(tmp_path / "toy" / "images" / "test" / folder / f"@{500000 + i}@4000000@.jpg", i)
    database = tmp_path / "toy" / "images" / "test" / "database"
    nameless = [raw_trees.picture(database / f"holiday{i}.jpg").name for i in range(7)]
    broken = [f"@{500000 + i}@4000000@.jpg" for i in range(8)]
    for name in broken:
        (database / name).write_bytes(b"no image")
    (database / "track.gpx").touch()
    (database / "film.mp4").touch()
    assert main(["verify", str(tmp_path / "toy")]) == 1
    printed = capsys.readouterr().out
    for name in (*nameless, *broken):
        assert any(line.startswith("FAULT") and name in line for line in printed.splitlines()), name
    assert "1 .gpx" in printed and "1 .mp4" in printed
    assert main(["verify", str(tmp_path / "toy"), "--names_only"]) == 1
    assert broken[0] not in capsys.readouterr().out


def test_published_counts_are_warnings_with_how_sure_they_are(tmp_path: Path, capsys) -> None:
    raw_trees.in_protocol(tmp_path, "tokyo_xs")
    assert main(["verify", str(tmp_path / "tokyo_xs")]) == 0
    printed = capsys.readouterr().out
    assert "warning test/queries has 1 images, -314 against the published 315 (second-hand, may be wrong)" in printed


def test_a_gallery_is_said_to_become_a_database(tmp_path: Path, capsys) -> None:
    raw_trees.in_protocol(tmp_path, "svox")
    assert main(["verify", str(tmp_path / "svox")]) == 1
    assert "python3 -m datasets_vg prepare svox --raw FOLDER" in capsys.readouterr().out


def test_list_says_what_prepare_needs(tmp_path: Path, gsv: Path, capsys) -> None:
    assert main(["list", "--datasets_folder", str(tmp_path)]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["st_lucia"][1] == "fetches it" and rows["pitts30k"][1] == "needs --raw"
    assert rows["sf_xl"][2].startswith("test (val)") and rows["gsv_cities"][0] == "train"
    assert set(catalog.KNOWN) <= set(rows)


def documented() -> list[list[str]]:
    lines = re.findall(r"^(?:\$ )?python3 -m datasets_vg ([^#\n]*)", DOCS.read_text("utf-8"), re.MULTILINE)
    lines += re.findall(r"`python3 -m datasets_vg ((?:prepare|verify|stats|map|list)[^`<]*)`", DOCS.read_text("utf-8"))
    return [shlex.split(line) for line in lines]


def test_there_are_commands_in_the_documentation() -> None:
    assert len(documented()) > 20
    told = {words[1] for words in documented() if words[0] == "prepare"}
    assert {"pitts30k", "msls", "tokyo247", "sf_xl", "gsv_cities", "synthetic_city"} <= told
    text = DOCS.read_text("utf-8")
    assert [name for name in catalog.KNOWN if f"`{name}`" not in text and f"prepare {name}" not in text] == []


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_each_command_of_the_documentation_can_be_run(words: list[str]) -> None:
    options = _parser().parse_args(words)
    if words[0] == "prepare" and words[1] != "folder":
        assert set(options.part or ()) <= set(catalog.entry_of(words[1]).parts)


def test_every_row_of_the_catalogue_is_whole() -> None:
    for name, entry in catalog.PUBLIC.items():
        assert entry.about and entry.source and entry.terms and entry.papers, name
        assert any(part.default for part in entry.parts.values()), name
        for part in entry.parts.values():
            assert part.archives or part.wanted, name
            assert part.gigabytes < 1000, name
        for paper in entry.papers:
            assert paper.bibtex().startswith(f"@inproceedings{{{paper.key},\n") and str(paper.year) in paper.bibtex()
