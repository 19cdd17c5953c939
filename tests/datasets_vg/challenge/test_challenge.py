"""The MSLS challenge: prediction files joined, and scored against a naive reading of its rules."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import raw_trees
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_vg.__main__ import main
from datasets_vg.challenge.choices import CITIES, QUERY_TYPES
from datasets_vg.challenge.predictions import read_predictions, write_predictions
from datasets_vg.challenge.scoring import Truth, read_truth, score, score_table
from vgbench.data import read_split
from vgbench.errors import UserError

POSITIONS = ["", "key", "easting", "northing", "unique_cluster", "control_panel", "night", "view_direction"]
TYPES = ["", "all", *QUERY_TYPES]
RAW = ["", "key", "lon", "lat", "ca", "captured_at", "pano"]


def write_city(raw: Path, city: str, seed: int = 0, queries: int = 6, database: int = 9) -> None:
    """A street with a database image every 20 m; some images are panoramas, some of no type."""
    random = np.random.default_rng(seed)
    for level, count in (("database", database), ("query", queries)):
        folder = raw / "test_meta" / city / level
        keys = [f"{city}-{level[0]}{i}" for i in range(count)]
        east = 20.0 * np.arange(count) if level == "database" else random.uniform(0, 20 * database, count)
        flags = random.random((count, 7)) < 0.7
        pano = random.random(count) < 0.2
        where = [[i, keys[i], x, 0.0, 7, "False", "False", "Forward"] for i, x in enumerate(east.tolist())]
        raw_trees.write_csv(folder / "postprocessed.csv", POSITIONS, where)
        raw_trees.write_csv(
            folder / "subtask_index.csv", TYPES, [[i, *map(str, row)] for i, row in enumerate(flags.tolist())]
        )
        taken = [[i, keys[i], 1.0, 2.0, 90, "2019-01-01", str(one)] for i, one in enumerate(pano.tolist())]
        raw_trees.write_csv(folder / "raw.csv", RAW, taken)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def naive(raw: Path, city: str, ranked: dict[str, list[str]], kind: str) -> tuple[list[float], list[float], int]:
    """Recalls and mean average precisions at 1, 5, 10, 20, by the rules in the words of the challenge."""

    def level(name: str) -> list[tuple[str, float]]:
        folder = raw / "test_meta" / city / name
        together = zip(
            rows(folder / "postprocessed.csv"),
            rows(folder / "subtask_index.csv"),
            rows(folder / "raw.csv"),
            strict=True,
        )
        return [
            (where["key"], float(where["easting"]))
            for where, types, own in together
            if types[kind] == "True" and own["pano"] == "False"
        ]

    database, recalled, precise = level("database"), [], []
    for query, at in level("query"):
        right = {key for key, east in database if abs(east - at) <= 25}
        if not right:
            continue
        kept = [key for key in ranked[query] if key in {key for key, _ in database}]
        recalled.append([any(key in right for key in kept[:n]) for n in (1, 5, 10, 20)])
        own = []
        for n in (1, 5, 10, 20):
            found, total = 0, 0.0
            for place, key in enumerate(kept[:n], start=1):
                if key in right:
                    found += 1
                    total += found / place
            own.append(total / min(len(right), n))
        precise.append(own)
    if not recalled:
        return [], [], 0
    return (100 * np.mean(recalled, axis=0)).tolist(), (100 * np.mean(precise, axis=0)).tolist(), len(recalled)


def predictions_of(raw: Path, city: str, seed: int, depth: int = 9) -> dict[str, list[str]]:
    keys = [row["key"] for row in rows(raw / "test_meta" / city / "database" / "postprocessed.csv")]
    random = np.random.default_rng(seed)
    queries = [row["key"] for row in rows(raw / "test_meta" / city / "query" / "postprocessed.csv")]
    return {query: random.permutation(keys)[:depth].tolist() for query in queries}


def write_file(path: Path, ranked: dict[str, list[str]]) -> Path:
    path.write_text("# a comment\n" + "".join(" ".join([query, *keys]) + "\n" for query, keys in ranked.items()))
    return path


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["all", *QUERY_TYPES]))
def test_scores_are_those_of_the_rules(tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str) -> None:
    raw = tmp_path_factory.mktemp("raw")
    write_city(raw, "miami", seed)
    ranked = predictions_of(raw, "miami", seed)
    recalls, means, count = naive(raw, "miami", ranked, kind)
    found = score(ranked, read_truth(raw, "miami", kind))
    assert len(found.hits) == count
    if count:
        assert [100 * float((found.hits < n).mean()) for n in (1, 5, 10, 20)] == pytest.approx(recalls)
        assert (100 * found.precision.mean(axis=0)).tolist() == pytest.approx(means)
    assert "miami" in score_table([found], 9)


def test_six_files_become_one_and_its_score_city_by_city(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, files, ranked = tmp_path / "raw", [], {}
    for number, city in enumerate(CITIES):
        write_city(raw, city, number, queries=20)
        own = predictions_of(raw, city, number)
        ranked.update(own)
        files.append(str(write_file(tmp_path / f"{city}.txt", own)))
    output = tmp_path / "sent" / "challenge.zip"
    assert main(["msls", "join", *files, "--output", str(output), "--raw", str(raw)]) == 0
    assert capsys.readouterr().out == f"{output}: 120 queries\n"
    with zipfile.ZipFile(output) as packed:
        assert packed.namelist() == ["challenge.csv"]
        table = np.loadtxt(io.StringIO(packed.read("challenge.csv").decode()), ndmin=2, dtype=str)  # as the server does
    assert table.shape == (120, 10) and {row[0]: row[1:] for row in table.tolist()} == ranked
    assert main(["msls", "score", str(output), "--raw", str(raw), "--query_type", "all", "day2night"]) == 0
    printed = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    assert lines[0] == ["city", "queries", "R@1", "R@5", "mAP@1", "mAP@5"] and len(lines) == 2 * (2 + 7)
    expected = [naive(raw, city, ranked, "all") for city in CITIES]
    for line, city, (recalls, means, count) in zip(lines[2:8], CITIES, expected, strict=True):
        assert line[:2] == [city, str(count)]
        assert [float(cell) for cell in line[2:]] == pytest.approx([*recalls[:2], *means[:2]], abs=0.051)
    total = sum(count for *_, count in expected)
    assert lines[8][:2] == ["all", str(total)]
    assert float(lines[8][2]) == pytest.approx(sum(r[0] * c for r, _, c in expected) / total, abs=0.051)


def test_a_file_for_each_type_of_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    write_city(raw, "miami", 3, queries=20)
    file = write_file(tmp_path / "miami.txt", predictions_of(raw, "miami", 0))
    arguments = ["msls", "join", str(file), "--output", str(tmp_path / "x.csv"), "--by_type"]
    assert main([*arguments, "--raw", str(raw), "--cities", "miami"]) == 0
    written = [tmp_path / f"x_{kind}.csv" for kind in QUERY_TYPES]
    for path, kind in zip(written, QUERY_TYPES, strict=True):
        assert list(read_predictions([path])) == list(read_truth(raw, "miami", kind).positives)
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert main(arguments) == 2 and "--by_type: needs --raw" in capsys.readouterr().err


def refused(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["msls", *map(str, arguments)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    write_city(raw, "miami", 1)
    ranked = predictions_of(raw, "miami", 1)
    good = write_file(tmp_path / "miami.txt", ranked)
    query = next(iter(read_truth(raw, "miami").positives))

    def said(text: str) -> str:
        (tmp_path / "bad.txt").write_text(text)
        return refused("join", tmp_path / "bad.txt", "--output", tmp_path / "o.zip", capsys=capsys)

    assert "no predictions" in said("") and "no predictions for q1" in said("q1\n")
    assert "q1,q2 is no key" in said("q1,q2 a b\n")
    assert "1 predictions for q2, 2 for most" in said("q1 a b\nq2 a\nq3 a b\n")
    assert "cannot be read" in refused("join", tmp_path / "no.txt", "--output", tmp_path / "o.zip", capsys=capsys)
    assert "is in" in refused("join", good, good, "--output", tmp_path / "o.zip", capsys=capsys)
    assert "Expected .zip" in refused("join", good, "--output", tmp_path / "o.json", capsys=capsys)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and nothing")
    assert "cannot be read" in refused("score", tmp_path / "bad.zip", "--raw", raw, capsys=capsys)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as packed:
        packed.writestr("a.csv", "q a\n")
        packed.writestr("b.csv", "q a\n")
    assert "2 files in it" in refused("score", tmp_path / "two.zip", "--raw", raw, capsys=capsys)
    assert "test_meta/athens" in refused("score", good, "--raw", raw, capsys=capsys)
    line = refused("score", good, "--raw", tmp_path / "no", "--cities", "miami", capsys=capsys)
    assert "no" in line
    del ranked[query]
    write_file(good, ranked)
    assert f"such as {query}" in refused("score", good, "--raw", raw, "--cities", "miami", capsys=capsys)
    joined = ("join", good, "--raw", raw, "--cities", "miami", "--output", tmp_path / "o.zip")
    assert f"such as {query}" in refused(*joined, capsys=capsys)
    (raw / "test_meta/miami/query/subtask_index.csv").write_text(",all\n0,True\n")
    assert "1 lines. Expected 6" in refused("score", good, "--raw", raw, "--cities", "miami", capsys=capsys)
    (raw / "test_meta/miami/query/subtask_index.csv").unlink()
    line = refused("score", good, "--raw", raw, "--cities", "miami", "--query_type", "old2new", capsys=capsys)
    assert "subtask_index.csv: no such file" in line


def test_the_same_predictions_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_predictions(tmp_path / name / "challenge.zip", {"q": ["x", "y"]})
    assert (tmp_path / "a/challenge.zip").read_bytes() == (tmp_path / "b/challenge.zip").read_bytes()
    assert read_predictions([tmp_path / "a/challenge.zip"]) == {"q": ["x", "y"]}


def test_nobody_is_right_where_nothing_is_near() -> None:
    truth = Truth("x", {"q": frozenset({"a"})}, frozenset({"a", "b"}), frozenset({"q"}))
    assert score({"q": ["b"]}, truth).hits.tolist() == [1]
    with pytest.raises(UserError, match="no predictions for 1 of its 1 queries, such as q"):
        score({}, truth)


def test_prepare_links_the_official_queries(tmp_path: Path) -> None:
    raw = raw_trees.msls_challenge(tmp_path / "raw", CITIES)
    folder = raw / "test_meta" / "miami" / "query"
    header = POSITIONS
    raw_trees.picture(raw / "test/miami/query/images/far.jpg")
    table = [
        [0, "miami-query", 500000.0, 1000.0, 7, "False", "False", "Sideways"],
        [1, "far", 600000.0, 1000.0, 7, "False", "False", "Sideways"],
    ]
    raw_trees.write_csv(folder / "postprocessed.csv", header, table)
    raw_trees.write_csv(folder / "subtask_index.csv", ["", "all"], [[0, "True"], [1, "True"]])
    sets = tmp_path / "sets"
    assert main(["prepare", "msls", "--raw", str(raw), "--part", "challenge", "--datasets_folder", str(sets)]) == 0
    split = read_split(sets / "msls/challenge/miami", "test", "queries_official")
    assert len(split.queries) == 1 and "miami-query" in split.queries.relative_path(0)
    assert len(read_split(sets / "msls/challenge/miami", "test").queries) == 2
