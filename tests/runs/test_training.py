"""Validation during training: plain, whatever the test at the end is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from calls import of
from recipes import network_of, recipe_of

from vgbench.cli import parser
from vgbench.data import read_split
from vgbench.runs.settings import TrainSettings
from vgbench.runs.training import run_training
from vgbench.runtime import Runtime
from vgbench.training import LoopResult
from vgbench.training.modes.table import build_mode
from vgbench.training.tracker import Nowhere


@pytest.mark.parametrize(
    "options",
    [
        ["--pca_dim=8", "--test_method=five_crops", "--threshold", "5", "--search_backend=torch"],
        ["--quantise=binary", "--scales", "1", "0.5"],
        ["--descriptors_dtype=float16", "--recall_values", "1", "2"],
    ],
)
def test_validation_is_plain_whatever_the_test_at_the_end_is(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    common = [*of(tiny_dataset), "--num_workers=0", "--resize", "64", "64"]
    given = parser.read_command_line(TrainSettings, "", [*common, *options])
    plainly = parser.read_command_line(TrainSettings, "", common)
    asked: list[set[str]] = []
    found: list[dict[int, float]] = []

    def validated(network: Any, mode: Any, validate: Any, *rest: Any) -> Any:
        recalls = validate(network, 0).recalls
        found.append({n: recalls[n] for n in (1, 5)})
        return LoopResult(tmp_path / "best_model.pth", 0, recalls[5], 1, 0, False, 0.0)

    def seen(path: Path, *rest: Any, **more: Any) -> None:
        asked.append({file.name.rpartition("-")[0] for file in Path(path).iterdir()})

    monkeypatch.setattr("vgbench.runs.training.train", validated)
    monkeypatch.setattr("vgbench.runs.training.shutil.rmtree", seen)
    val = read_split(tiny_dataset, "test")
    for number, words in enumerate((given, plainly)):
        settings = parser.resolve(TrainSettings, words, {})
        settings = dataclasses.replace(settings, training=dataclasses.replace(settings.training, epochs_num=1))
        folder = tmp_path / str(number)
        folder.mkdir()
        network = network_of()
        run_training(
            settings, network, build_mode(recipe_of(tiny_dataset, "places")), val, Runtime(), folder, Nowhere()
        )
    # The files of a plain test: descriptors of the database and of the queries, no PCA, no train database, no codes.
    assert asked == [{f"{tiny_dataset.name}_test_database", f"{tiny_dataset.name}_test_queries"}] * 2
    assert found[0] == found[1]
