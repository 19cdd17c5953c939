from __future__ import annotations

import math
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.data.table import ImageTable, TableBuilder

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0/"), min_size=1, max_size=40)
RECORDS = st.tuples(
    NAMES,
    st.floats(-1e7, 1e7),
    st.floats(-1e7, 1e7),
    st.one_of(st.just(math.nan), st.floats(-360, 360, width=32)),
    st.sampled_from(["", "2019", "20190203_040506", "_040506"]),
    st.sampled_from(["", "night", "día", "place 7"]),
)


def table_of(records: list[tuple[str, float, float, float, str, str]]) -> ImageTable:
    builder = TableBuilder()
    for record in records:
        builder.add(*record)
    return builder.build(Path("somewhere"))


def as_records(table: ImageTable) -> list[tuple[str, float, float, str, str, str]]:
    return [
        (table.relative_path(i), *map(float, table.utm[i]), str(table.heading[i]), table.timestamp(i), table.note(i))
        for i in range(len(table))
    ]


@given(st.lists(RECORDS, max_size=12), st.data())
def test_select_gives_the_rows_asked_for(
    records: list[tuple[str, float, float, float, str, str]], data: st.DataObject
) -> None:
    table = table_of(records)
    expected = [(n, e, u, str(np.float32(h)), t, o) for n, e, u, h, t, o in records]
    assert as_records(table) == expected
    rows = data.draw(st.lists(st.integers(0, len(records) - 1), max_size=20) if records else st.just([]))
    chosen = table.select(np.array(rows, np.int64))
    assert as_records(chosen) == [expected[row] for row in rows]
    assert chosen.utm.shape == (len(rows), 2) and chosen.heading.dtype == np.float32


def test_select_in_chunks_equals_select_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of([(f"{'x' * (i % 7)}{i}.jpg", i, -i, 0.0, "", str(i % 3)) for i in range(50)])
    rows = np.random.default_rng(0).integers(0, 50, 200)
    expected = as_records(table.select(rows))
    monkeypatch.setattr("vgbench.data.table._CHUNK", 7)
    assert as_records(table.select(rows)) == expected


@pytest.mark.parametrize("row", [-1, 3])
def test_select_refuses_rows_outside(row: int) -> None:
    with pytest.raises(IndexError):
        table_of([("a.jpg", 0, 0, 0, "", "")] * 3).select(np.array([0, row]))


def test_rows_outside_are_index_errors_and_negative_rows_count_from_the_end() -> None:
    table = table_of([("a.jpg", 0, 0, 0, "", ""), ("b.jpg", 0, 0, 0, "", "")])
    assert table.relative_path(-1) == "b.jpg"
    with pytest.raises(IndexError):
        table.relative_path(2)


def test_bytes_that_are_not_unicode_survive() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    assert table_of([(name, 0, 0, 0, "", "")]).relative_path(0) == name


def test_timestamp_keeps_the_protocols_fifteen_characters() -> None:
    assert table_of([("a.jpg", 0, 0, 0, "20190203_040506.789", "")]).timestamp(0) == "20190203_040506"


def test_two_hundred_thousand_images_take_less_than_300_bytes_each() -> None:
    count = 200_000
    tracemalloc.start()
    builder = TableBuilder()
    for i in range(count):
        east = 500000 + i
        name = f"37.{i % 50}/@{east:010.2f}@4177826.78@10@S@037.74541@-122.43212@{i:022d}@00@090@@@@201311@{i % 5}@.jpg"
        builder.add(name, east, 4177826.78, 90.0, "201311", str(i % 5))
    table = builder.build(Path("big"))
    del builder
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / count <= 300 and peak / count <= 400
    assert 0.8 * kept < table.nbytes <= kept * 1.05
    assert table.relative_path(count - 1).endswith("@201311@4@.jpg")
    halves = table.select(np.arange(0, count, 2))
    assert halves.relative_path(1000) == table.relative_path(2000)


def test_fingerprint_follows_names_sizes_and_times(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"123")
        os.utime(tmp_path / name, ns=(0, 10**18))

    def fingerprint(*names: str) -> str:
        builder = TableBuilder()
        for name in names:
            builder.add(name, 0, 0)
        return builder.build(tmp_path).fingerprint()

    first = fingerprint("a.jpg", "b.jpg")
    assert first == fingerprint("a.jpg", "b.jpg") and len(first) == 64
    seen = {first, fingerprint("a.jpg"), fingerprint("b.jpg", "a.jpg"), fingerprint("a.jpg", "c.jpg")}
    os.utime(tmp_path / "a.jpg", ns=(0, 10**18 + 1))
    seen.add(fingerprint("a.jpg", "b.jpg"))
    (tmp_path / "a.jpg").write_bytes(b"1234")
    os.utime(tmp_path / "a.jpg", ns=(0, 10**18))
    seen.add(fingerprint("a.jpg", "b.jpg"))
    assert len(seen) == 6


def test_fingerprint_is_computed_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"123")
    builder = TableBuilder()
    builder.add("a.jpg", 0, 0)
    table = builder.build(tmp_path)
    first = table.fingerprint()
    (tmp_path / "a.jpg").write_bytes(b"12345")
    assert table.fingerprint() == first


def test_a_table_travels_to_another_process() -> None:
    table = table_of([("ü/a.jpg", 1.5, -2.5, math.nan, "2019", "night")])
    assert as_records(pickle.loads(pickle.dumps(table))) == as_records(table)


def test_an_empty_table_works() -> None:
    table = TableBuilder().build(Path("empty"))
    assert len(table) == 0 and table.utm.shape == (0, 2) and list(table.relative_paths()) == []
    assert len(table.select(np.empty(0, np.int64))) == 0 and len(table.fingerprint()) == 64
