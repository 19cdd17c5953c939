"""Files that are there whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vgbench.errors import UserError
from vgbench.files import write_text, written_whole


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "some.txt"
    write_text(path, "old")
    with written_whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "some.txt"
    write_text(path, "old")
    with pytest.raises(type(error)), written_whole(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below.txt", tmp_path):
        with pytest.raises(UserError, match=r"^\S+: cannot be written \(.+\)\. Expected a writable folder") as caught:
            write_text(path, "text")
        assert str(path) in str(caught.value)


def test_two_that_write_one_file_at_once_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    with written_whole(path) as one, written_whole(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("the other")
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_leave_one_of_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    texts = [str(number) * 5000 for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda text: write_text(path, text), texts * 20))
    assert path.read_text() in texts and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    for name in ("some.txt.partial", "some.txt.1.partial"):
        (tmp_path / name).write_text("half of something longer than what comes")
    write_text(path, "whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_a_name_as_long_as_file_systems_take(letter: str, tmp_path: Path) -> None:
    path = tmp_path / (letter * (255 // len(letter.encode())))
    write_text(path, "whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / (letter * 256), "whole")


def test_names_that_are_no_text_keep_their_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "names.txt", b"caf\xe9".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "names.txt").read_bytes() == b"caf\xe9"
