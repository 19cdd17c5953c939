"""eval.py under the protocols that papers use, and on plain folders of photographs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import complaint, of
from own_pictures import exif
from PIL import Image

import vgbench
from vgbench.data import parse_name, read_folder
from vgbench.data.utm import to_latitude_longitude
from vgbench.report.labels import dataset_label

KML = "{http://www.opengis.net/kml/2.2}"


@pytest.fixture
def tested(call: Any, trained: Path, tmp_path: Path) -> Any:
    """Run eval.py with a trained network; returns (status, stdout, stderr) and the run's folder."""
    numbers = iter(range(100))

    def run(*extra: str) -> tuple[tuple[int, str, str], Path]:
        folder = tmp_path / f"run{next(numbers)}"
        arguments = [f"--resume={trained / 'best_model.pth'}", "--num_workers=0", f"--run_dir={folder}"]
        return call("eval.py", *arguments, "--heat_maps=0", *extra), folder

    return run


def results_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text()))


def test_several_query_folders_describe_the_database_once(tested: Any, tiny_dataset: Path) -> None:
    test = tiny_dataset / "images/test"
    names = sorted(path.name for path in (test / "queries").iterdir())
    for number, name in enumerate(("queries_night", "queries_v2")):
        (test / name).mkdir()
        for file in names[number * 6 : number * 6 + 6]:
            shutil.copy(test / "queries" / file, test / name / file)
    folders = ["queries", "queries_night", "queries_v2"]
    (status, out, err), run = tested(*of(tiny_dataset), "--queries_folder", *folders)
    assert status == 0, err
    results = results_of(run)
    assert [one["queries_folder"] for one in results["query_sets"]] == folders
    assert [one["queries"] for one in results["query_sets"]] == [16, 6, 6]
    assert results["recalls"] == results["query_sets"][0]["recalls"]
    # Once made, and afterwards reused by the others.
    assert out.count("database") and len(list((run.parent / "run/descriptors").glob("*database*"))) == 1
    assert len([line for line in out.splitlines() if "_database-" in line and "reused" in line]) >= 2
    [table] = [line for line in out.splitlines() if line.startswith("| tiny night")]
    assert "25 m" in table
    for one in folders:
        alone = results_of(run / one)
        assert alone["queries_folder"] == one and (run / one / "report.html").is_file()
    (status, _, err), single = tested(*of(tiny_dataset), "--queries_folder=queries_night")
    assert status == 0, err
    assert results_of(single)["recalls"] == results["query_sets"][1]["recalls"]


def test_the_val_split(tested: Any, pristine_dataset: Path) -> None:
    (status, _, err), run = tested(*of(pristine_dataset), "--split=val")
    assert status == 0, err
    assert results_of(run)["split"] == "val"


def test_a_set_is_judged_as_papers_do(tested: Any, pristine_dataset: Path, tmp_path: Path) -> None:
    mall = tmp_path / "baidu"
    shutil.copytree(pristine_dataset, mall)
    (status, out, err), run = tested(*of(mall))
    assert status == 0, err
    assert "baidu: judged within 10 m, as papers do" in out and list(results_of(run)["recalls"]) == ["10"]
    assert dataset_label(results_of(run)) == "baidu (10 m)"
    (status, out, err), run = tested(*of(mall), "--threshold", "25", "10")
    assert status == 0, err
    assert "baidu: judged within 25 m; published numbers are within 10 m" in out
    assert list(results_of(run)["recalls"]) == ["25", "10"] and dataset_label(results_of(run)) == "baidu"


@pytest.mark.parametrize(
    ("options", "threshold"),
    [
        ({"dataset_name": "baidu"}, (10.0,)),
        ({"dataset_name": "baidu", "threshold": [25.0, 5.0]}, (25.0, 5.0)),
        ({"dataset_name": "baidu", "val_positive_dist_threshold": 25.0}, None),
        ({"dataset_name": "baidu", "frame_tolerance": 2}, None),
        ({"dataset_name": "sped"}, None),
        ({"dataset_name": "amstertime"}, None),
        ({"dataset_name": "my_mall"}, None),
    ],
)
def test_what_the_user_says_is_right_comes_first(options: dict[str, Any], threshold: Any) -> None:
    assert vgbench.eval_settings(**options).evaluation.threshold == threshold


def test_training_takes_one_folder_of_queries(call: Any, pristine_dataset: Path) -> None:
    assert "several are for eval.py" in complaint(call("train.py", *of(pristine_dataset), "--queries_folder", "a", "b"))


def test_predictions_are_written_for_maps(tested: Any, pristine_dataset: Path) -> None:
    import gpxpy

    (status, _, err), run = tested(*of(pristine_dataset))
    assert status == 0, err
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert len(rows) == 16
    for row in rows:
        name = parse_name(row["file"])
        assert float(row["true_utm_east"]) == pytest.approx(name.utm_east, abs=0.01)
        off = np.hypot(float(row["utm_east"]) - name.utm_east, float(row["utm_north"]) - name.utm_north)
        assert float(row["error"]) == pytest.approx(off, abs=0.02)
        assert float(row["true_latitude"]) == pytest.approx(36.144, abs=0.01)
    within = np.mean([float(row["error"]) <= 25 for row in rows])
    assert 100 * within == pytest.approx(results_of(run)["recalls"]["25"]["1"], abs=1e-2)
    features = json.loads((run / "predictions.geojson").read_text())["features"]
    assert [sum(f["properties"]["kind"] == kind for f in features) for kind in ("predicted", "true", "error")] == [
        16
    ] * 3
    longitude, latitude = features[0]["geometry"]["coordinates"]
    assert (longitude, latitude) == (
        pytest.approx(float(rows[0]["longitude"])),
        pytest.approx(float(rows[0]["latitude"])),
    )
    import xml.etree.ElementTree as ET

    marks = ET.parse(run / "predictions.kml").getroot().iter(f"{KML}Placemark")
    assert sum(mark.find(f"{KML}Point") is not None for mark in marks) == 16
    with (run / "predictions.gpx").open() as stream:
        points = gpxpy.parse(stream).waypoints
    assert [point.name for point in points] == [row["file"] for row in rows]


def test_photographs_with_gps_say_how_far_off(tested: Any, pristine_dataset: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    queries = read_folder(pristine_dataset / "images/test/queries")
    for row in range(4):
        east, north = queries.utm[row]
        latitude, longitude = to_latitude_longitude(east, north + 7, 33, "S")
        place = exif((float(latitude), float(longitude))) if row else Image.Exif()
        Image.open(queries.path(row)).save(photos / f"{row}.png", exif=place)
    (status, out, err), run = tested(*of(pristine_dataset), f"--queries_folder={photos}", "--no_labels")
    assert status == 0, err
    assert "3 of 4 photographs carry GPS: position by the best match: 25% within" in out
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert rows[0]["error"] == "" and rows[0]["true_latitude"] == ""
    for row in rows[1:]:
        true = queries.utm[int(row["file"][0])] + [0, 7]
        off = np.hypot(*(np.array([float(row["utm_east"]), float(row["utm_north"])]) - true))
        assert float(row["error"]) == pytest.approx(off, abs=0.05)
    assert results_of(run)["gps"]["with_gps"] == 3 and results_of(run)["recalls"] == {}


def test_two_plain_folders(tested: Any, pristine_dataset: Path, tmp_path: Path) -> None:
    for part in ("database", "queries"):
        (tmp_path / part).mkdir()
        for number, path in enumerate(sorted((pristine_dataset / "images/test" / part).iterdir())):
            shutil.copy(path, tmp_path / part / f"{number:02d}.jpg")
    both = f"--database_folder={tmp_path / 'database'}", f"--queries_folder={tmp_path / 'queries'}"
    (status, out, err), run = tested(*both, "--no_labels")
    assert status == 0, err
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert len(rows) == 16 and {row["utm_east"] + row["latitude"] + row["error"] for row in rows} == {""}
    right = np.mean([int(row["match_1"][:2]) // 3 == int(row["file"][:2]) // 2 for row in rows])
    (_, _, _), labelled = tested(*of(pristine_dataset))
    assert 100 * right == pytest.approx(results_of(labelled)["recalls"]["25"]["1"], abs=1e-2)
    assert not (run / "predictions.kml").exists() and "report.html" in out
    assert "--no_labels" in complaint(tested(*both)[0])
    assert "--rerank spatial" in complaint(tested(*both, "--no_labels", "--rerank", "spatial")[0])


def test_ground_truth_by_frames_and_by_file(tested: Any, pristine_dataset: Path, tmp_path: Path) -> None:
    """The tiny set without coordinates; its places are the frames."""
    for part, each in (("database", 3), ("queries", 2)):
        folder = tmp_path / "plain/images/test" / part
        folder.mkdir(parents=True)
        for number, path in enumerate(sorted((pristine_dataset / "images/test" / part).iterdir())):
            shutil.copy(path, folder / f"{chr(97 + number % each)}_{number // each:04d}.jpg")
    (_, _, _), labelled = tested(*of(pristine_dataset))
    expected = results_of(labelled)["recalls"]["25"]
    (status, out, err), run = tested(*of(tmp_path / "plain"), "--frame_tolerance=0")
    assert status == 0, err
    results = results_of(run)
    assert results["recalls"] == {"0": expected} and results["protocol"] == "±0 frames" and "±0 frames" in out
    queries = [f"{side}_{place:04d}.jpg" for place in range(8) for side in "ab"]
    lines = [",".join([query, *(f"{side}{query[1:]}" for side in "abc")]) for query in queries]
    (tmp_path / "gt.csv").write_text("\n".join(lines))
    (status, out, err), run = tested(*of(tmp_path / "plain"), f"--ground_truth={tmp_path / 'gt.csv'}")
    assert status == 0, err
    assert results_of(run)["recalls"] == {"25": expected} and "by gt.csv" in out
    assert "±" not in (run / "report.html").read_text()
