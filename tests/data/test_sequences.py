"""Windows of frames: none crosses a break, positions are of the central frame, positives as MSLS counts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.data.options import DataOptions
from vgbench.data.positives import BY_DISTANCE, GroundTruth
from vgbench.data.sequences import SequenceRules, SequenceTable, in_sequences, lifted, readable
from vgbench.data.splits import few_images, read_checked_split
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.errors import UserError


def table(east: list[float], folder: str = "", number: list[int] | None = None, time: str = "") -> ImageTable:
    """Images at metres east, called by their numbers."""
    builder = TableBuilder()
    for place, metres in enumerate(east):
        called = place if number is None else number[place]
        timestamp = time and f"20200101_12{called:02d}00"
        builder.add(
            f"{folder}@{metres:.2f}@0.00@33@S@@@{called:04d}@@@@@@{timestamp}@@.jpg", metres, 0.0, 90.0, timestamp
        )
    return builder.build(Path("somewhere/database"))


STEPS = st.lists(st.sampled_from([0.0, 5.0, 49.0, 50.0, 51.0, 200.0]), min_size=1, max_size=30)


@given(STEPS, st.integers(1, 5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_no_window_crosses_a_jump(steps: list[float], length: int, stride: int, random) -> None:
    east = np.cumsum(steps).tolist()
    shuffled = list(range(len(east)))
    random.shuffle(shuffled)
    images = table([east[i] for i in shuffled], number=shuffled)
    # By hand: every start of every run of steps of at most 50 m, counted from the run's own beginning.
    first = [i for i in range(len(east)) if i == 0 or steps[i] > 50]
    expected = [
        list(range(start, start + length))
        for begin, end in zip(first, [*first[1:], len(east)], strict=True)
        for start in range(begin, end - length + 1, stride)
    ]
    rules = SequenceRules(length, "pano_id", stride)
    if not expected:
        with pytest.raises(UserError, match=f"^--seq_length {length}: .*Expected"):
            in_sequences(images, rules)
        return
    found = in_sequences(images, rules)
    walked = [[shuffled[row] for row in window] for window in found.members]
    assert walked == expected
    assert np.array_equal(found.utm[:, 0], [east[window[length // 2]] for window in expected])
    assert len(found) == len(expected) and found.path(0).name.split("@")[7] == f"{expected[0][length // 2]:04d}"


def test_missing_frames_and_long_waits_are_jumps(tmp_path: Path) -> None:
    images = table([0.0, 1.0, 2.0, 3.0, 4.0])
    images.root = tmp_path / "database"
    lines = ["key,sequence_key,frame_number", "0000,a,1", "0001,a,2", "0002,a,4", "0003,b,5", "0004,a,5"]
    (tmp_path / "database_sequences.csv").write_text("\n".join(lines))
    assert in_sequences(images, SequenceRules(2)).members.tolist() == [[0, 1], [2, 4]]
    timed = table([0.0, 1.0, 2.0, 3.0], number=[0, 1, 5, 6], time="yes")
    assert len(in_sequences(timed, SequenceRules(2, "timestamp"))) == 3
    assert in_sequences(timed, SequenceRules(2, "timestamp", jump_seconds=60)).members.tolist() == [[0, 1], [2, 3]]
    far = table([0.0, 1000.0, 2000.0])
    assert len(in_sequences(far, SequenceRules(3, jump_metres=None))) == 1


@given(st.lists(st.floats(0, 100), min_size=3, max_size=12), st.lists(st.floats(0, 100), min_size=3, max_size=12),
       st.integers(1, 3), st.sampled_from(["any", "centre"]))  # fmt: skip
def test_positives_are_those_of_the_frames(asked: list[float], known: list[float], length: int, match: str) -> None:
    rules = SequenceRules(length, "list", jump_metres=None, match=match)
    queries, database = in_sequences(table(asked), rules), in_sequences(table(known), rules)
    near = np.abs(queries.frames.utm[:, None, 0] - database.frames.utm[None, :, 0]) <= 25
    found = BY_DISTANCE.positives(queries, database, 25)
    for row, window in enumerate(queries.members):
        if match == "any":
            right = [column for column, other in enumerate(database.members) if near[np.ix_(window, other)].any()]
        else:
            right = [c for c, other in enumerate(database.members) if near[window[length // 2], other[length // 2]]]
        assert found.of(row).tolist() == right


def test_other_truths_are_lifted_too() -> None:
    rules = SequenceRules(3, "pano_id", jump_metres=None, match="centre")
    images = in_sequences(table([100.0 * i for i in range(6)]), rules)
    by_frames = GroundTruth(frames=1).positives(images, images, 1.0)
    assert [by_frames.of(row).tolist() for row in range(4)] == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]
    assert GroundTruth(frames=1, sequences=rules.label).label == "±1 frames, sequences of 3, central frame"
    nothing = lifted(np.zeros(7, np.int64), np.empty(0, np.int64), images, images)
    assert nothing[0].tolist() == [0] * 5 and not len(nothing[1])


def test_parts_of_a_table_stay_sequences() -> None:
    images = in_sequences(table([0.0, 10.0, 20.0, 30.0]), SequenceRules(3, "pano_id"))
    some = images.select(np.array([True, False]))
    assert isinstance(some, SequenceTable) and some.members.tolist() == [[0, 1, 2]]
    assert some.fingerprint() != images.fingerprint() == images.select(np.arange(2)).fingerprint()
    with pytest.raises(IndexError):
        images.select(np.array([2]))
    names = list(images.frames.relative_paths())
    assert readable(images, names[1:]).members.tolist() == [[1, 2, 3]]
    assert "2 windows of 3" in repr(images)


def test_a_split_is_read_as_sequences(dataset: Path) -> None:
    options = DataOptions(datasets_folder=dataset.parent, dataset_name=dataset.name, num_workers=0, on_bad_image="skip")
    (dataset / "images/test/queries").mkdir(exist_ok=True)
    victim = sorted((dataset / "images/test/queries").iterdir())[0]
    victim.write_bytes(b"not a picture")
    split = read_checked_split(options, dataset, "test", rules=SequenceRules(3))
    assert (len(split.database), len(split.queries)) == (10, 2)  # the bad frame's window is left out
    assert split.truth.label == "sequences of 3, any frame"
    few = few_images(split, 25)
    assert isinstance(few.database, SequenceTable) and len(few.queries) == 2
