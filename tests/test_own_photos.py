"""eval.py on somebody's own photographs, and what a test leaves besides its recalls."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import complaint, of
from PIL import Image

from vgbench.data import read_folder


def evaluated(call: Any, trained: Path, dataset: Path, run: Path, *extra: str) -> tuple[int, str, str]:
    arguments = [f"--resume={trained / 'best_model.pth'}", *of(dataset), "--num_workers=0", f"--run_dir={run}", *extra]
    return tuple(call("eval.py", *arguments))  # type: ignore[return-value]


@pytest.fixture
def photos(pristine_dataset: Path, tmp_path: Path) -> Path:
    """Copies of test queries under names that say nothing; one lies on its side, as a phone saves it."""
    folder = tmp_path / "my photos"
    (folder / "day 2").mkdir(parents=True)
    queries = sorted((pristine_dataset / "images/test/queries").iterdir())
    shutil.copy(queries[0], folder / "first.jpg")
    Image.open(queries[5]).save(folder / "day 2" / "second.PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(queries[9]).transpose(Image.Transpose.ROTATE_90).save(folder / "third.jpeg", exif=exif, quality=95)
    return folder


def test_photographs_are_placed_where_the_labelled_queries_are(
    call: Any, trained: Path, pristine_dataset: Path, photos: Path, tmp_path: Path
) -> None:
    """The same pixels, without coordinates, find what they find with them; with a confidence learned on val."""
    status, out, err = evaluated(call, trained, pristine_dataset, tmp_path / "labelled")
    assert status == 0, err
    assert "learned from the val split" in out
    shutil.copytree(pristine_dataset / "images/test/queries", photos, dirs_exist_ok=True)
    run = tmp_path / "photos"
    status, out, err = evaluated(
        call, trained, pristine_dataset, run, f"--queries_folder={photos}", "--no_labels", "--save_preds=2",
    )  # fmt: skip
    assert status == 0, err
    assert "R@1" not in out and "confidence learned from the val split (16 queries)" in out
    rows = {row["file"]: row for row in csv.DictReader((run / "predictions.csv").open())}
    assert len(rows) == 19
    import h5py

    with h5py.File(tmp_path / "labelled/predictions.h5") as file:
        best = np.asarray(file["indices"])[:, 0]
    database = read_folder(pristine_dataset / "images/test/database")
    queries = read_folder(pristine_dataset / "images/test/queries")
    for name, index in zip(queries.relative_paths(), best, strict=True):
        assert rows[name]["match_1"] == database.relative_path(int(index))
        assert 0 < float(rows[name]["confidence"]) < 1 and rows[name]["utm_zone"] == "33S"
    names = list(queries.relative_paths())
    for photo, number in (("first.jpg", 0), ("day 2/second.PNG", 5), ("third.jpeg", 9)):
        assert float(rows[photo]["utm_east"]) == pytest.approx(float(rows[names[number]]["utm_east"]), abs=15)
    names = sorted(path.name for path in photos.iterdir())[:2]
    panels = [f"{row:05}_{Path(name).stem}.jpg" for row, name in enumerate(names)]
    assert sorted(path.name for path in (run / "preds").iterdir()) == panels
    results = json.loads((run / "results.json").read_text())
    assert results["recalls"] == {} and results["queries"] == 19
    assert "All positions are in predictions.csv" in (run / "report.html").read_text()


def test_without_training_the_confidence_is_learned_on_the_datasets_own_queries(
    call: Any, trained: Path, pristine_dataset: Path, photos: Path, tmp_path: Path
) -> None:
    extra = [f"--queries_folder={photos}", "--no_labels", "--rerank", "spatial"]
    status, out, err = evaluated(call, trained, pristine_dataset, tmp_path / "a", *extra)
    assert status == 0, err
    assert "learned from the dataset's test queries (16 queries)" in out and "spatial: no recalls" in out
    status, out, err = evaluated(call, trained, pristine_dataset, tmp_path / "b", *extra, "--confidence_queries=0")
    assert status == 0, err
    assert "learned" not in out
    [*rows] = csv.DictReader((tmp_path / "b/predictions.csv").open())
    assert {row["confidence"] for row in rows} == {""}


def test_bad_folders_are_one_line(
    call: Any, trained: Path, pristine_dataset: Path, photos: Path, tmp_path: Path
) -> None:
    def said(folder: Path, *extra: str) -> str:
        run = tmp_path / "bad"
        extra = (f"--queries_folder={folder}", "--no_labels", *extra)
        return complaint(evaluated(call, trained, pristine_dataset, run, *extra))

    assert "--queries_folder" in said(tmp_path / "absent") and "no such folder" in said(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "no images in it" in said(tmp_path / "empty")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8")
    assert "broken.jpg" in said(photos)
    assert "--pairs_num 99" in said(photos, "--on_bad_image=skip", f"--pairs_out={tmp_path / 'p'}", "--pairs_num=99")


def test_a_test_leaves_its_findings(call: Any, trained: Path, pristine_dataset: Path, tmp_path: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    assert set(results["pose"]["best"]) == {"25", "50", "75", "90"}
    assert results["recall_by_distance"]["1"][24] == pytest.approx(results["recalls"]["25"]["1"], abs=1e-3)
    assert results["confidence"]["learned_from"] == "the val split (16 queries)"
    assert (trained / "confidence.json").is_file() and not (trained / "descriptors" / "confidence").exists()
    status, out, err = evaluated(
        call, trained, pristine_dataset, tmp_path / "again", "--rerank", "spatial", "--pairs_format=kapture",
        f"--pairs_out={tmp_path / 'pairs.txt'}", "--pairs_num=2",
        "--report_queries=16", "--heat_maps=3", "--heat_seconds=0",
    )  # fmt: skip
    assert status == 0, err
    assert "learned from cross-validation over the queries" in out  # val was not re-ranked
    assert len((tmp_path / "pairs.txt").read_text().splitlines()) == 2 + 2 * 16
    text = (tmp_path / "again/report.html").read_text()
    assert "Re-ranking" in text and text.count('class="heat"') == 2 * 3
