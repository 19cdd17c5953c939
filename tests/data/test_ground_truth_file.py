"""What is right for a query: by heading, by frame numbers, by files, beside plain references."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.data.positives import GroundTruth, neighbours_within, within_text
from vgbench.data.protocol import read_splits
from vgbench.data.protocol_options import ProtocolOptions
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.errors import UserError


def table(names: list[str], headings: list[float] | None = None, east: list[float] | None = None) -> ImageTable:
    builder = TableBuilder()
    for number, name in enumerate(names):
        at = float("nan") if east is None else east[number]
        builder.add(name, at, 0.0, float("nan") if headings is None else headings[number])
    return builder.build(Path("folder"))


def rows(truth: GroundTruth, queries: ImageTable, database: ImageTable, threshold: float = 25.0) -> list[list[int]]:
    found = truth.positives(queries, database, truth.thresholds((threshold,))[0])
    return [found.of(query).tolist() for query in range(len(queries))]


QUARTERS = st.integers(0, 4 * 360 - 1).map(lambda n: n / 4)
HEADINGS = st.lists(st.tuples(QUARTERS, st.integers(0, 60)), min_size=1, max_size=12)


@given(HEADINGS, HEADINGS, st.integers(0, 180))
def test_heading_and_distance(queries: list[tuple[float, int]], database: list[tuple[float, int]], most: int) -> None:
    asked = table(["q"] * len(queries), [h for h, _ in queries], [e for _, e in queries])
    known = table(["d"] * len(database), [h for h, _ in database], [e for _, e in database])
    expected = [
        [
            row
            for row, (heading, east) in enumerate(database)
            if abs(east - at) <= 25 and min((heading - looks) % 360, (looks - heading) % 360) <= most
        ]
        for looks, at in queries
    ]
    assert rows(GroundTruth(heading=most), asked, known) == expected


def test_names_without_headings_are_refused() -> None:
    asked, known = table(["q"], [10.0], [0.0]), table(["a", "b"], [10.0, float("nan")], [0.0, 1.0])
    with pytest.raises(UserError, match="1 of 2 names in folder have no heading, such as b"):
        GroundTruth(heading=20).positives(asked, known, 25)


def test_frames_by_the_last_number_of_the_name() -> None:
    asked = table(["@0@0@@@@@winter_0007@@@@@@@@.jpg", "s/00009.png"])
    known = table([f"summer-{number}.jpg" for number in (9, 5, 6, 8, 20)])
    assert rows(GroundTruth(frames=1), asked, known) == [[2, 3], [0, 3]]
    assert rows(GroundTruth(frames=0), asked, known) == [[], [0]]
    with pytest.raises(UserError, match="has no number"):
        GroundTruth(frames=1).positives(table(["x.jpg"]), known, 1)


def test_csv(tmp_path: Path) -> None:
    asked, known = table(["a/q1.jpg", "a/q2.jpg", "q3.jpg"]), table(["x/1.jpg", "y/1.jpg", "2.jpg"])
    file = tmp_path / "gt.csv"
    file.write_text("\ufeffquery,positive\nq1.jpg,x/1.jpg,2.jpg\nq3.jpg,y/1.jpg\nq1.jpg,y/1.jpg\n", "utf-8")
    assert rows(GroundTruth(file=file), asked, known) == [[0, 1, 2], [], [1]]
    file.write_text("q1.jpg;2.jpg\n")
    assert rows(GroundTruth(file=file), asked, known) == [[2], [], []]
    for text, said in (("q9.jpg,2.jpg\n", "q9.jpg is no query"), ("q1.jpg,1.jpg\n", "1.jpg is no database image")):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            GroundTruth(file=file).positives(asked, known, 25)
    with pytest.raises(UserError, match="no such file"):
        GroundTruth(file=tmp_path / "absent.csv").positives(asked, known, 25)


def test_npy(tmp_path: Path) -> None:
    asked, known = table(["q1", "q2", "q3"]), table(["a", "b", "c", "d"])
    file = tmp_path / "gt.npy"
    ragged = np.empty(3, object)
    ragged[:] = [np.array([3, 1]), np.array([], np.int64), [0]]
    for array in (
        np.array([[0, 1], [0, 3], [2, 0]]),
        np.array([[1, 3, -1], [-1, -1, -1], [0, -1, -1]]),
        ragged,
    ):
        np.save(file, array)
        assert rows(GroundTruth(file=file), asked, known) == [[1, 3], [], [0]]
    np.save(file, np.array([[0, 9]]))
    with pytest.raises(UserError, match="row 9 of 4 database images"):
        GroundTruth(file=file).positives(asked, known, 25)
    np.save(file, np.array([[0.5, 1.0]]))
    with pytest.raises(UserError, match="Expected whole ones"):
        GroundTruth(file=file).positives(asked, known, 25)


def test_an_array_without_whole_numbers_is_one_line(tmp_path: Path) -> None:
    asked, known = table(["q1", "q2"]), table(["a", "b"])
    file = tmp_path / "gt.npy"
    ragged = np.empty(2, object)
    for first in ("_reconstruct", 0.5, np.nan, {}, [[0], [1, 0]], 2**70, "7"):
        ragged[:] = [first, [1]]
        np.save(file, ragged, allow_pickle=True)
        with pytest.raises(UserError, match="holds no whole numbers"):
            GroundTruth(file=file).positives(asked, known, 25)
    for array in (np.array([["0", "1"]]), np.array(["2020-01-01"], "datetime64[D]"), np.array([[0.5, 1.0]])):
        np.save(file, array)
        with pytest.raises(UserError, match="whole"):
            GroundTruth(file=file).positives(asked, known, 25)
    ragged[:] = [1.0, [0]]
    np.save(file, ragged, allow_pickle=True)
    assert rows(GroundTruth(file=file), asked, known) == [[1], [0]]


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Path.cwd() / "attacked"),)


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = np.empty(1, object)
    array[0] = _Attack()
    np.save(tmp_path / "gt.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match="is no array"):
        GroundTruth(file=tmp_path / "gt.npy").positives(table(["q"]), table(["d"]), 25)
    assert not (tmp_path / "attacked").exists() and pickle.HIGHEST_PROTOCOL


def test_two_truths_have_two_labels() -> None:
    truths = [GroundTruth(), GroundTruth(heading=20), GroundTruth(frames=1), GroundTruth(frames=10)]
    truths.append(GroundTruth(file=Path("gt.csv")))
    assert len({truth.label for truth in truths}) == len(truths)
    assert [within_text(25, truth.label) for truth in truths] == [
        "25 m", "25 m", "±1 frames", "±10 frames", "by gt.csv",
    ]  # fmt: skip
    for wrong in ({"ground_truth": Path("x"), "frame_tolerance": 1}, {"heading_threshold": 20.0, "frame_tolerance": 1}):
        with pytest.raises(UserError, match="Expected"):
            ProtocolOptions(**wrong)  # type: ignore[arg-type]


def test_sets_without_coordinates_are_read_where_none_are_needed(tmp_path: Path) -> None:
    for part in ("database", "queries"):
        folder = tmp_path / "set/images/test" / part
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.jpg").touch()
    [split] = read_splits(tmp_path / "set", "test", ("queries",), GroundTruth(frames=0))
    assert not split.located and len(split.queries) == 3
    with pytest.raises(UserError, match="no UTM coordinates"):
        read_splits(tmp_path / "set", "test", ("queries",))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.lists(st.integers(0, 30), max_size=8))
def test_selection_keeps_each_querys_own(queries: list[int], database: list[int]) -> None:
    asked, known = (np.array([(e, 0) for e in part], np.float64).reshape(-1, 2) for part in (queries, database))
    near = neighbours_within(asked, known, 5)
    chosen = np.arange(len(queries))[::2]
    some = near.select(chosen)
    assert [some.of(n).tolist() for n in range(len(some))] == [near.of(int(q)).tolist() for q in chosen]
