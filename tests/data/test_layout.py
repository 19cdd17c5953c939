"""Datasets without the images level, and what is said where a dataset is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datasets_vg import catalog
from vgbench.data import read_split
from vgbench.data.layout import dataset_of, split_folder
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


def said(folder: Path, name: str) -> str:
    with pytest.raises(UserError) as raised:
        read_split(folder / name, "test")
    return str(raised.value)


@pytest.mark.parametrize("name", catalog.KNOWN)
def test_each_known_name_has_its_own_command(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASETS_FOLDER", str(tmp_path))
    message = said(tmp_path, name)
    command = f"python3 -m datasets_vg prepare {name}"
    asks = name not in catalog.MADE and not catalog.KNOWN[name].fetched
    assert message.endswith(command + " --raw FOLDER" if asks else command)


def test_another_folder_of_datasets_is_part_of_the_command(tmp_path: Path) -> None:
    assert said(tmp_path, "svox").endswith(f"prepare svox --datasets_folder '{tmp_path}'")


def test_invented_names_are_not_said_to_be_fetched(tmp_path: Path) -> None:
    assert "prepare" not in said(tmp_path, "atlantis")
    assert "Did you mean pitts30k: python3 -m datasets_vg prepare pitts30k" in said(tmp_path, "pits30k")
    (tmp_path / "my_town").mkdir()
    assert f"Did you mean my_town, which is in {tmp_path}?" in said(tmp_path, "my_towns")
