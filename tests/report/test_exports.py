"""Pairs for other programs, and the table of predicted positions."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from tiny_city import write_dataset

from vgbench.data import read_split
from vgbench.errors import UserError
from vgbench.report.exports import write_pairs
from vgbench.report.options import ReportOptions
from vgbench.report.outputs import check_report
from vgbench.report.positions import Placed, write_positions
from vgbench.retrieval.metrics.findings import Findings
from vgbench.retrieval.metrics.pose import predicted_poses
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.predictions import Predictions


@pytest.fixture
def split(tmp_path):
    return read_split(write_dataset(tmp_path / "tiny"), "test")


@pytest.fixture
def predictions(split):
    rng = np.random.default_rng(0)
    shape = (len(split.queries), 3)
    distances = np.sort(rng.random(shape), axis=1).astype(np.float32)
    return Predictions(rng.integers(0, len(split.database), shape), distances)


def test_hloc_pairs_name_files_that_are_there(split, predictions, tmp_path):
    path = tmp_path / "new" / "pairs.txt"
    assert write_pairs(path, split, predictions, "hloc", 2) == 2 * len(split.queries)
    pairs = [line.split(" ") for line in path.read_text().splitlines()]
    assert len(pairs) == 2 * len(split.queries) and not list(path.parent.glob("*.partial"))
    images = split.root / "images" / "test"
    assert all((images / query).is_file() and (images / match).is_file() for query, match in pairs)
    assert pairs[3] == [
        f"queries/{split.queries.relative_path(1)}",
        f"database/{split.database.relative_path(predictions.indices[1, 1])}",
    ]


def test_kapture_pairs_have_a_header_and_scores_that_fall(split, predictions, tmp_path):
    path = tmp_path / "pairs.txt"
    assert write_pairs(path, split, predictions, "kapture") == predictions.indices.size
    head, names, *lines = path.read_text().splitlines()
    assert (head, names) == ("# kapture format: 1.1", "# query_image, map_image, score")
    scores = np.array([float(line.split(", ")[2]) for line in lines]).reshape(predictions.indices.shape)
    np.testing.assert_allclose(scores, -predictions.distances, rtol=1e-4)


def test_what_a_format_cannot_hold_is_one_line(city, split, predictions, tmp_path):
    with pytest.raises(UserError, match=r"--pairs_num 9: there are 3 predictions.*--recall_values"):
        write_pairs(tmp_path / "p", split, predictions, "hloc", 9)
    with pytest.raises(UserError, match=r"--pairs_num 9: there are 3"):
        check_report(ReportOptions(pairs_out=tmp_path / "p", pairs_num=9), 3, split)
    with pytest.raises(UserError, match=r"--pairs_out .* has a ' ' in it"):
        check_report(ReportOptions(pairs_out=tmp_path / "p"), 3, city.split)
    with pytest.raises(UserError, match=r"--pairs_out .* has a ' ' in it"):
        write_pairs(tmp_path / "p", city.split, city.predictions, "hloc")
    assert not (tmp_path / "p").exists()
    for bad in ({"heat_maps": -1}, {"pairs_num": 0}, {"pairs_format": "xml"}, {"heat_seconds": math.nan}):
        with pytest.raises(UserError, match=f"--{next(iter(bad))}"):
            ReportOptions(**bad)


def test_the_table_of_positions(split, predictions, tmp_path):
    poses = predicted_poses(predictions, split.database.utm, EvalOptions())
    confidence = np.linspace(0, 1, len(split.queries))
    confidence[0] = math.nan
    placed = Placed(split, predictions, Findings(poses, confidence, {}))
    table = write_positions(tmp_path, placed)[0]
    rows = list(csv.DictReader(table.open()))
    assert [row["file"] for row in rows] == list(split.queries.relative_paths())
    for number, row in enumerate(rows):
        best = predictions.indices[number, 0]
        assert row["match_1"] == split.database.relative_path(best) and row["utm_zone"] == "33S"
        assert float(row["utm_east"]) == pytest.approx(split.database.utm[best, 0], abs=0.01)
        assert float(row["weighted_utm_east"]) == pytest.approx(poses.weighted[number, 0], abs=0.01)
        # Zone 33 has its middle, east 500 000 m, at 15 degrees east; 4 000 000 m north lie at 36.14 degrees.
        assert float(row["latitude"]) == pytest.approx(36.1442, abs=1e-3)
        assert float(row["longitude"]) == pytest.approx(15 + (float(row["utm_east"]) - 5e5) / 89_960, abs=1e-4)
        assert [float(row[f"distance_{n}"]) for n in (1, 2, 3)] == sorted(
            float(row[f"distance_{n}"]) for n in (1, 2, 3)
        )
    assert rows[0]["confidence"] == "" and float(rows[-1]["confidence"]) == 1


def test_the_prediction_file_of_the_msls_challenge_has_keys(split, predictions, tmp_path):
    path = tmp_path / "predictions.txt"
    assert write_pairs(path, split, predictions, "msls", 3) == 3 * len(split.queries)
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    key = [name.split("@")[7] for name in split.database.relative_paths()]
    assert [line[0] for line in lines] == [name.split("@")[7] for name in split.queries.relative_paths()]
    assert [line[1:] for line in lines] == [[key[row] for row in rows] for rows in predictions.indices.tolist()]
