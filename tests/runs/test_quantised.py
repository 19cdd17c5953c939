"""Descriptors by 8 bits: calibrated on train images, and what is lost is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vgbench.data import Split
from vgbench.data.table import TableBuilder
from vgbench.runs.quantised import recalls_at_1_and_5


def table(root, positions):
    builder = TableBuilder()
    for number, (east, north) in enumerate(positions):
        builder.add(f"{number}.jpg", east, north)
    return builder.build(root)


def test_recalls_count_queries_with_a_positive(tmp_path) -> None:
    database = table(tmp_path, [(0, 0), (100, 0), (200, 0), (300, 0), (400, 0), (500, 0), (600, 0)])
    queries = table(tmp_path, [(1, 0), (101, 0), (9000, 0)])  # the last has none
    split = Split("test", tmp_path, database, queries)
    descriptors = torch.eye(7)
    seen = torch.stack([descriptors[0], 0.9 * descriptors[3] + 0.5 * descriptors[1], descriptors[2]])
    assert recalls_at_1_and_5(seen, descriptors, split, 25) == (50.0, 100.0)


def test_eval_says_what_8_bits_cost(tiny_dataset, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openvino"), pytest.importorskip("nncf")
    from vgbench import eval_settings, evaluate

    caplog.set_level("INFO")
    settings = eval_settings(
        datasets_folder=tiny_dataset.parent, dataset_name="tiny", backbone="resnet18conv4", aggregation="gem",
        pretrain="none", resize=(64, 64), device="cpu", num_workers=0, inference_backend="openvino",
        openvino_int8=True, calibration_images=8, run_dir=tmp_path / "run", save_preds=0,
    )  # fmt: skip
    found = evaluate(settings)
    assert "int8: calibrates on 8 database images" in caplog.text
    assert "int8: R@1" in caplog.text and "converted for 4 images of 64x64 (int8)" in caplog.text
    assert np.isfinite(list(found.recalls[25].values())).all()
    written = json.loads((tmp_path / "run" / "results.json").read_text())["int8"]
    assert written["queries"] > 0 and set(written["recalls"]) == set(written["without"]) == {"1", "5"}
    assert f"R@1 {written['without']['1']:.1f} -> {written['recalls']['1']:.1f}" in caplog.text
