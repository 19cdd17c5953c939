"""Files that are there whole or not at all."""

from __future__ import annotations

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


def test_names_that_are_no_text_keep_their_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "names.txt", b"caf\xe9".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "names.txt").read_bytes() == b"caf\xe9"
