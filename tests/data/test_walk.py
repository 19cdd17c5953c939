"""The order of images: by time, by number, by list; sequences apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vgbench.data.table import ImageTable, TableBuilder
from vgbench.data.walk import walk_of
from vgbench.errors import UserError


def table(*names: tuple[str, str]) -> ImageTable:
    """A table of (pano_id or folder/pano_id, timestamp)."""
    builder = TableBuilder()
    for pano, timestamp in names:
        folder, _, number = pano.rpartition("/")
        name = f"@500000.00@4000000.00@33@S@@@{number}@0@@@@@{timestamp}@@.jpg"
        builder.add(f"{folder}/{name}" if folder else name, 5e5, 4e6, timestamp=timestamp)
    return builder.build(Path("somewhere"))


def test_by_time_of_day_a_sequence_a_day() -> None:
    images = table(
        ("9", "20200102_101010"), ("8", "20200101_235959"), ("7", "20200101_2359"), ("6", "20200102_0000")
    )  # fmt: skip
    walk = walk_of(images, "auto")
    assert (walk.by, walk.sequences) == ("timestamp", 2)
    assert walk.rows.tolist() == [3, 0, 2, 1]
    assert walk.starts.tolist() == [0, 0, 2, 2] and walk.ends.tolist() == [2, 2, 4, 4]
    assert walk.shifted(1).tolist() == [1, 1, 3, 3] and walk.shifted(-2).tolist() == [0, 0, 2, 2]


def test_by_the_number_at_the_end_of_the_pano_id() -> None:
    images = table(("a_10", ""), ("a_9", ""), ("b_1", ""), ("a_2.jpg", ""))
    walk = walk_of(images, "auto")
    assert (walk.by, walk.sequences) == ("pano_id", 2)
    assert walk.rows.tolist() == [3, 1, 0, 2]


def test_else_as_listed_a_sequence_a_folder() -> None:
    images = table(("y/key", "2020"), ("x/other", "2020"), ("y/third", "2020"))
    walk = walk_of(images, "auto")
    assert (walk.by, walk.sequences) == ("list", 2)
    assert walk.rows.tolist() == [0, 2, 1]
    numbers = table(("3", ""), ("1", ""))
    assert walk_of(numbers, "list").rows.tolist() == [0, 1]
    assert walk_of(numbers, "pano_id").rows.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("names", "by"),
    [
        ([("1", "20200101_10"), ("2", "20200101_11")], "timestamp"),  # hours alone
        ([("1", "20200101_101010"), ("2", "20200101_101010")], "timestamp"),  # at once
        ([("1", ""), ("1", "")], "pano_id"),
        ([("one", ""), ("2", "")], "pano_id"),
    ],
)
def test_names_that_do_not_say_it(names: list[tuple[str, str]], by: str) -> None:
    with pytest.raises(UserError, match=f"^--seq_order {by}: .*Expected") as caught:
        walk_of(table(*names), by)
    assert "\n" not in str(caught.value)
    assert np.array_equal(walk_of(table(*names), "list").rows, [0, 1])


def test_by_the_file_beside_the_folder(tmp_path: Path) -> None:
    images = table(("k1", "20200101_1010"), ("k2", "20200101_1011"), ("k3", "20200101_1012"))
    images.root = tmp_path / "queries"
    with pytest.raises(UserError, match=r"^--seq_order file: there is no .*queries_sequences.csv. Expected"):
        walk_of(images, "file")
    file = tmp_path / "queries_sequences.csv"
    file.write_text(",key,sequence_key,frame_number\n0,k3,one,7\n1,k1,two,4\n2,k2,one,6\n3,gone,one,5\n")
    walk = walk_of(images, "auto")
    assert (walk.by, walk.sequences, walk.rows.tolist()) == ("file", 2, [0, 1, 2])
    assert walk.numbers.tolist() == [4.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["key,frame_number", "k1,1"], "cannot be read"),
        (["key,sequence_key,frame_number", "k1,a,one"], "cannot be read"),
        (["key,sequence_key,frame_number", "k1,a,1"], "has no line for"),
        (["key,sequence_key,frame_number", "k1,a,1", "k2,a,1"], "twice"),
    ],
)
def test_files_that_do_not_say_it(tmp_path: Path, lines: list[str], said: str) -> None:
    images = table(("k1", ""), ("k2", ""))
    images.root = tmp_path / "queries"
    (tmp_path / "queries_sequences.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=f"queries_sequences.csv: .*{said}.*Expected"):
        walk_of(images, "auto")
