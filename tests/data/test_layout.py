"""Datasets without the images level, and what is said where a dataset is missing."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from datasets_vg import catalog
from datasets_vg.__main__ import _parser
from vgbench.data import read_split
from vgbench.data.layout import SPLITS, dataset_of, remedy, split_folder
from vgbench.errors import UserError


def test_a_set_is_read_as_published_without_the_images_level(dataset: Path) -> None:
    bare = dataset.parent / "tokyo_xs"
    shutil.copytree(dataset / "images", bare)
    split, same = read_split(bare, "test"), read_split(dataset, "test")
    assert list(split.database.relative_paths()) == list(same.database.relative_paths())
    assert split.queries.root == bare / "test" / "queries"


def test_the_images_level_wins_and_is_what_is_expected(tmp_path: Path) -> None:
    assert split_folder(tmp_path, "val") == tmp_path / "images" / "val"
    (tmp_path / "val").mkdir()
    assert split_folder(tmp_path, "val") == tmp_path / "val"
    (tmp_path / "images" / "val").mkdir(parents=True)
    assert split_folder(tmp_path, "val") == tmp_path / "images" / "val"


@pytest.mark.parametrize("images", ["", "images/"])
def test_the_dataset_of_a_folder(images: str) -> None:
    assert dataset_of(Path(f"/sets/toy/{images}test/database/a")) == Path("/sets/toy")


def said(folder: Path, name: str, split: str = "test") -> str:
    with pytest.raises(UserError) as raised:
        read_split(folder / name, split)
    return str(raised.value)


@pytest.mark.parametrize("name", catalog.KNOWN)
def test_each_known_name_has_its_own_command(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASETS_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # where the checkout has `datasets`, the answer to a missing one names it
    command = f"python3 -m datasets_vg prepare {name}"
    asks = name not in catalog.MADE and not catalog.KNOWN[name].fetched
    message = remedy(tmp_path / name)
    assert message.endswith(command + " --raw FOLDER" if asks else command)
    # What it names is a command that can be typed, whose parts there are.
    for split in SPLITS:
        told = said(tmp_path, name, split)
        if f"{name} has no {split}" in told:
            assert "prepare" not in told
            continue
        words = shlex.split(told.rpartition("python3 -m datasets_vg ")[2])
        options = _parser().parse_args(words)
        entry = catalog.KNOWN[name]
        assert set(options.part or ()) <= set(entry.parts)
        if options.raw is None and name not in catalog.MADE:
            parts = options.part or [part for part, one in entry.parts.items() if one.default]
            assert all(entry.parts[part].archives for part in parts)


def test_a_split_that_was_never_published_is_said_to_be_none(tmp_path: Path) -> None:
    assert "st_lucia has no val: it is published with test alone" in said(tmp_path, "st_lucia", "val")
    assert "gsv_cities has no test: it is published with train alone" in said(tmp_path, "gsv_cities", "test")
    assert "prepare sf_xl --part val" in said(tmp_path, "sf_xl", "val")
    assert "prepare pitts30k --part val" in said(tmp_path, "pitts30k", "val")


def test_a_set_that_lies_elsewhere_is_found(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, asked = tmp_path / "other", tmp_path / "asked"
    asked.mkdir()
    for name in ("pitts30k", "my_town"):
        shutil.copytree(dataset, other / name)
    monkeypatch.setenv("DATASETS_FOLDER", str(other))
    assert f"pitts30k lies in {other}: --datasets_folder '{other}'" in said(asked, "pitts30k")
    assert f"Did you mean pitts30k, which is in {other}: --datasets_folder '{other}'?" in said(asked, "pits30k")
    assert f"Did you mean my_town, which is in {other}: --datasets_folder '{other}'?" in said(asked, "my_town")
    monkeypatch.delenv("DATASETS_FOLDER")
    assert "prepare pitts30k" in said(asked, "pitts30k")
    shutil.copytree(dataset, asked / "msls/challenge/miami")
    inside = asked / "msls/challenge"
    assert f"Did you mean miami, which is in {inside}: --datasets_folder '{inside}'?" in said(asked, "miami")


def test_a_folder_that_prepare_leaves_alone_is_to_be_moved(tmp_path: Path, dataset: Path) -> None:
    shutil.copytree(dataset, tmp_path / "svox")
    shutil.rmtree(tmp_path / "svox/images/val", ignore_errors=True)
    told = said(tmp_path, "svox", "val")
    assert f"to fetch it once {tmp_path / 'svox'}, which prepare did not make, is moved away: python3 -m" in told
    (tmp_path / "svox/prepared.json").write_text("{}")
    assert "moved away" not in said(tmp_path, "svox", "val")


def test_another_folder_of_datasets_is_part_of_the_command(tmp_path: Path) -> None:
    assert said(tmp_path, "svox").endswith(f"prepare svox --datasets_folder '{tmp_path}'")


def test_invented_names_are_not_said_to_be_fetched(tmp_path: Path) -> None:
    assert "prepare" not in said(tmp_path, "atlantis")
    assert "Did you mean st_lucia: python3 -m datasets_vg prepare st_lucia" in said(tmp_path, "stlucia")
    told = said(tmp_path, "pits30k")
    assert "Did you mean pitts30k: python3 -m datasets_vg prepare pitts30k" in told and "--raw FOLDER?" in told
    (tmp_path / "my_town").mkdir()
    assert f"Did you mean my_town, which is in {tmp_path}?" in said(tmp_path, "my_towns")
