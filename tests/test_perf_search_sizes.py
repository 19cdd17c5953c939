"""Exact search beside faiss at many sizes: the descriptors that are searched, and what is measured of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from perf import search_sizes
from perf.search_sizes import SIZES, Size
from vgbench.retrieval.extraction.store import Descriptors


def test_a_database_with_ties_holds_each_distinct_descriptor_as_often(tmp_path: Path) -> None:
    size = Size(40, 8, "float32", 5, distinct=10)
    assert size.what == "5 queries in 40 x 8 float32, 10 of them distinct"
    for name, rows in (("database", 40), ("queries", 5)):
        search_sizes._write(tmp_path / f"{name}.h5", size, rows, seed=rows)
    with Descriptors(tmp_path / "database.h5") as database, Descriptors(tmp_path / "queries.h5") as queries:
        stored, asked = database.read(), queries.read()
    assert stored.shape == (40, 8) and len({tuple(row) for row in stored.tolist()}) == 10
    assert asked.shape == (5, 8) and len({tuple(row) for row in asked.tolist()}) == 5
    assert stored.norm(dim=1).sub(1).abs().max() < 1e-6


def test_both_sides_are_timed_in_each_round(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    called: list[str] = []
    for side in ("ours", "faiss"):
        monkeypatch.setattr(search_sizes, f"_{side}", lambda folder, side=side: called.append(side))
    one = {"database": 40, "dim": 8, "dtype": "float16", "queries": 5, "distinct": 0, "rounds": 2}
    monkeypatch.setattr(sys, "argv", ["search_sizes", json.dumps(one)])
    search_sizes.main()
    times = json.loads(capsys.readouterr().out)
    assert {side: len(taken) for side, taken in times.items()} == {"ours": 2, "faiss": 2}
    assert called == ["ours", "faiss"] * 3  # the first of each warms up


def test_sizes_reach_from_thousands_to_long_descriptors_with_ties_among_them() -> None:
    assert {size.dim for size in SIZES} >= {128, 256, 16_384, 32_768}
    assert any(size.distinct for size in SIZES) and max(size.database for size in SIZES) == 100_000
