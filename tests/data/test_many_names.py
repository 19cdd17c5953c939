"""Names read thousands at a time say what they say when read one by one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vgbench.data import many_names
from vgbench.data.many_names import in_blocks, read_usual
from vgbench.data.positions import Said, SaidPositions
from vgbench.data.protocol import _add_each, read_folder
from vgbench.data.table import ImageTable, TableBuilder

METRES = st.sampled_from(
    ["500000.25", "0500000.25", "-3", "+7.", "4000000.123", "1e5", "5_0", "", ".5", "nan", "9" * 20]
)
DEGREES = st.sampled_from(["", "37.70071", "-122.4", "037.70071", "-37.5", "200.5", "x", "5.", ".5", "1e1", "+8"])
ZONES = st.sampled_from(["", "10", "07", "60", "61", "0", "10.0", "T"])
LETTERS = st.sampled_from(["", "S", "s", "N", "C", "I", "ü", "NN"])
HEADINGS = st.sampled_from(["", "90", "359.5", "-10", "north"])
TIMES = st.sampled_from(["", "201306", "20130601_101112", "20130601_101112_and_more"])
NOTES = st.sampled_from(["", "night", "ü", "a b"])
PLAIN, EMPTY = st.sampled_from(["", "before", "a.b"]), st.just("")
FIELDS = st.tuples(
    *(
        PLAIN,
        METRES,
        METRES,
        ZONES,
        LETTERS,
        DEGREES,
        DEGREES,
        PLAIN,
        EMPTY,
        HEADINGS,
        EMPTY,
        EMPTY,
        EMPTY,
        TIMES,
        NOTES,
    )
)
FOLDERS, ENDINGS = st.sampled_from(["", "a/", "a@b/c/"]), st.sampled_from([".jpg", ".JPG", ".png"])


@st.composite
def a_name(draw: st.DrawFn) -> str:
    fields = draw(FIELDS)[: draw(st.integers(3, 15))]
    return draw(FOLDERS) + "@".join(fields) + "@" + draw(ENDINGS)


NAMES = a_name()
USUAL = "@0500000.25@4000000.00@10@S@037.70071@-122.40000@pano@@212@@@@201306@night@.jpg"


def one_by_one(names: list[bytes]) -> tuple[list[str], ImageTable, Said]:
    builder, said = TableBuilder(), SaidPositions()
    return _add_each(names, builder, said), builder.build(Path("root")), said.arrays()


def at_once(names: list[bytes]) -> tuple[ImageTable, Said] | None:
    columns = read_usual(names)
    if columns is None:
        return None
    assert len(columns) == len(names)
    builder, said = TableBuilder(), SaidPositions()
    builder.extend(columns)
    said.extend(columns)
    return builder.build(Path("root")), said.arrays()


def assert_same(a: tuple[ImageTable, Said], b: tuple[ImageTable, Said]) -> None:
    assert list(a[0].relative_paths()) == list(b[0].relative_paths())
    np.testing.assert_array_equal(a[0].utm, b[0].utm)
    np.testing.assert_array_equal(a[0].heading, b[0].heading)
    rows = range(len(a[0]))
    assert [(a[0].timestamp(n), a[0].note(n)) for n in rows] == [(b[0].timestamp(n), b[0].note(n)) for n in rows]
    for name in ("zone", "decimals", "fine", "latitude", "longitude"):
        np.testing.assert_array_equal(getattr(a[1], name), getattr(b[1], name), err_msg=name)


@given(st.lists(NAMES, min_size=1, max_size=5))
@example([USUAL])
@example([USUAL, USUAL.replace("@10@S@", "@10@@"), USUAL.replace("@10@S@037", "@10@S@-37")])
@example([USUAL.replace("@10@S@", "@@@"), USUAL.replace("@10@S@037.70071@-122.40000", "@@@@")])
@settings(max_examples=80, deadline=None)
def test_both_ways_say_the_same(names: list[str]) -> None:
    paths = [os.fsencode(name) for name in names]
    bad, table, said = one_by_one(paths)
    found = at_once(paths)
    if found is not None:
        assert not bad
        assert_same(found, (table, said))


def test_usual_names_are_read_at_once_and_others_are_not() -> None:
    assert at_once([os.fsencode(USUAL)]) is not None
    assert at_once([os.fsencode("deep/er/" + USUAL), os.fsencode(USUAL)]) is not None
    for other in ("@1@2@.jpg", USUAL.replace("@10@", "@61@"), USUAL.replace("@212@", "@north@"), "a\n" + USUAL):
        assert at_once([os.fsencode(USUAL), os.fsencode(other)]) is None


def test_a_folder_of_both_kinds_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_names, "AT_ONCE", 3)
    names = [USUAL.replace("4000000", f"400000{n}") for n in range(7)] + ["@0500000.25@4000009@.jpg", "@7@8@x@y@.png"]
    for name in names:
        (tmp_path / name).touch()
    table = read_folder(tmp_path)
    assert list(table.relative_paths()) == sorted(names)
    _, expected, _ = one_by_one([os.fsencode(name) for name in sorted(names)])
    np.testing.assert_array_equal(table.utm, expected.utm)
    assert [len(block) for block in in_blocks([b"x"] * 7)] == [3, 3, 1]
