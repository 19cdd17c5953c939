"""`--cache_frozen` on the command line: what it is refused with, where its files are, and that they go."""

from __future__ import annotations

from pathlib import Path

import pytest
from calls import TRAINING, complaint, of, run_here

from vgbench.runs import frozen
from vgbench.training import TrainOptions

PLAIN = ["--backbone=resnet18conv4", "--aggregation=gem", "--epochs_num=1", "--device=cpu"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--brightness=0.3"], "--brightness 0.3"),
        (["--horizontal_flip"], "--horizontal_flip"),
        (["--freeze=0"], "trains its first step"),
        (["--compile=on"], "--compile on"),
        (["--grl_folder=."], "--grl_folder"),
        (["--train_dataset_name", "tiny", "tiny"], "one dataset"),
    ],
)
def test_what_needs_pixels_is_refused(
    words: list[str], named: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arguments = [*of(tiny_dataset), *TRAINING, *PLAIN, "--cache_frozen", *words]
    status = run_here("train.py", *[word for word in arguments if word != "--netvlad_clusters=4"])
    line = complaint((status, *capsys.readouterr()))
    assert named in line and "--cache_frozen" in line


def test_a_domain_classifier_needs_descriptors_that_learn(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "--backbone=resnet18conv4",
        "--aggregation=selavpr",
        "--device=cpu",
        "--train_pairs=alone",
        "--grl_folder=.",
    ]
    arguments = [word for word in TRAINING if not word.startswith("--netvlad")]
    line = complaint((run_here("train.py", *of(tiny_dataset), *arguments, *words), *capsys.readouterr()))
    assert "--train_pairs alone" in line and "--grl_folder" in line


def test_features_go_with_the_training(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [word for word in TRAINING if not word.startswith(("--netvlad", "--epochs"))]
    words = [*of(tiny_dataset), *arguments, *PLAIN, "--cache_frozen", f"--run_dir={tmp_path / 'run'}"]
    assert run_here("train.py", *words) == 0
    said = capsys.readouterr()
    assert "run once, in eval mode" in said.out + said.err
    assert f"{tmp_path / 'run' / 'frozen'}" in said.out + said.err  # they were there
    assert not (tmp_path / "run" / "frozen").exists()


@pytest.mark.parametrize(("folder", "gone"), [(None, True), ("features", False)])
def test_a_folder_of_their_own_keeps_them(folder: str | None, gone: bool, tmp_path: Path) -> None:
    kept = tmp_path / (folder or frozen.FOLDER)
    kept.mkdir()
    training = TrainOptions(cache_frozen=True, frozen_folder=None if folder is None else kept)
    frozen.clear(training, tmp_path)
    assert kept.exists() != gone
