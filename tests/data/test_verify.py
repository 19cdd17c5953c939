from __future__ import annotations

import logging
from pathlib import Path

import pytest

import vgbench.data.verify
from vgbench.data.decode import check_image
from vgbench.data.protocol import read_folder, read_split
from vgbench.data.table import ImageTable
from vgbench.data.verify import check_images, find_bad_images, verified_folder
from vgbench.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def damaged(dataset: Path) -> ImageTable:
    """A table whose rows 2 and 7 are unreadable."""
    table = read_split(dataset, "test").database
    content = table.path(2).read_bytes()
    table.path(2).write_bytes(content[: len(content) // 2])
    table.path(7).write_bytes(b"")
    return read_folder(table.root)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are looked at, in this process."""
    seen: list[Path] = []
    monkeypatch.setattr(vgbench.data.verify, "check_image", lambda path: seen.append(path) or check_image(path))
    return seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_images_are_found_in_order(damaged: ImageTable, num_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgbench.data.verify, "_IMAGES_AT_ONCE", 5)
    bad = find_bad_images(damaged, num_workers, progress=False)
    assert [name for name, _ in bad.images] == [damaged.relative_path(2), damaged.relative_path(7)]
    assert all(reason for _, reason in bad.images) and "truncated" in bad.images[0][1].lower()


def test_a_second_look_costs_nothing(dataset: Path, checked: list[Path]) -> None:
    table = read_split(dataset, "test").database
    assert len(find_bad_images(table, 0)) == 0 and len(checked) == 12
    assert len(find_bad_images(read_folder(table.root), 0)) == 0 and len(checked) == 12


def test_only_what_was_bad_is_looked_at_again(damaged: ImageTable, checked: list[Path]) -> None:
    first = find_bad_images(damaged, 0)
    checked.clear()
    assert find_bad_images(damaged, 0) == first
    assert checked == [damaged.path(2), damaged.path(7)]


def test_a_changed_folder_is_looked_at_anew(damaged: ImageTable, checked: list[Path]) -> None:
    find_bad_images(damaged, 0)
    damaged.path(7).write_bytes(damaged.path(6).read_bytes())
    mended = read_folder(damaged.root)
    assert [name for name, _ in find_bad_images(mended, 0).images] == [damaged.relative_path(2)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"images": 3, "bad": []}', '{"bad": 1}'])
def test_a_damaged_memory_is_not_believed(damaged: ImageTable, content: str) -> None:
    verified_folder().mkdir(parents=True)
    (verified_folder() / f"{damaged.fingerprint()}.json").write_text(content)
    assert len(find_bad_images(damaged, 0)) == 2


def test_a_cache_that_cannot_be_written_is_done_without(damaged: ImageTable, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert len(find_bad_images(damaged, 0)) == 2
    with pytest.raises(UserError, match=r"listed in \S+\.txt") as raised:
        check_images(damaged, "error", 0)
    listing = Path(str(raised.value).partition("listed in ")[2].partition(";")[0])
    assert len(listing.read_text().splitlines()) == 2


def test_error_names_the_images_and_lists_them_all(dataset: Path, cache: Path) -> None:
    table = read_split(dataset, "test").database
    for row in range(11):
        table.path(row).write_bytes(b"")
    table = read_folder(table.root)
    with pytest.raises(UserError, match=r"11 of 12 images cannot be read: .* and 1 more\.") as raised:
        check_images(table, "error", 0)
    message = str(raised.value)
    assert "\n" not in message and table.relative_path(9) in message and table.relative_path(10) not in message
    assert "--on_bad_image skip" in message
    listing = Path(message.partition("listed in ")[2].partition(";")[0])
    assert listing.is_relative_to(cache)
    lines = listing.read_text().splitlines()
    assert [line.partition("\t")[0] for line in lines] == [str(table.path(row)) for row in range(11)]


def test_skip_goes_on_without_them_and_says_so(damaged: ImageTable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        kept = check_images(damaged, "skip", 0)
    names = [damaged.relative_path(row) for row in range(12) if row not in (2, 7)]
    assert list(kept.relative_paths()) == names
    assert damaged.relative_path(2) in caplog.text and "2 of 12" in caplog.text


def test_skip_does_not_go_on_with_nothing(dataset: Path) -> None:
    table = read_split(dataset, "test").queries
    for row in range(len(table)):
        table.path(row).write_bytes(b"")
    with pytest.raises(UserError, match="5 of 5"):
        check_images(read_folder(table.root), "skip", 0)


def test_a_good_table_is_returned_as_it_is(dataset: Path) -> None:
    table = read_split(dataset, "test").queries
    assert check_images(table, "error", 2) is table


def test_real_photographs_are_whole(real_photographs: Path) -> None:
    table = read_split(real_photographs / "cambridge", "test").queries
    assert len(table) > 0 and len(find_bad_images(table, 2, progress=False)) == 0
