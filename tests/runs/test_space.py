"""A disk that cannot hold what a training or a test writes is told before an image is decoded."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_training
from calls import SMALL, TRAINING, complaint, of
from recipes import network_of
from tiny_training import TinyMode, run_tiny, tiny_network

from vgbench.data import loader, read_split
from vgbench.errors import UserError
from vgbench.retrieval.evaluation import evaluate
from vgbench.retrieval.options import EvalOptions
from vgbench.runs.space import checkpoint_bytes
from vgbench.runtime import Inference, Runtime


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"optim": "sgd"}, {"optim": "sgd", "momentum": 0.0}, {"optim": "adagrad"}, {"optim": "rmsprop"},
        {"ema_decay": 0.9},
    ],
)  # fmt: skip
def test_a_checkpoint_takes_about_what_is_foreseen(changes: dict[str, Any], tmp_path: Path) -> None:
    options = dataclasses.replace(tiny_training.OPTIONS, epochs_num=1, **changes)
    # Wide enough that weights, and not what names them, are most of the file.
    network = tiny_network()
    network.out = tiny_training.nn.Linear(24, 5000)
    foreseen = checkpoint_bytes(network, TinyMode(), options)
    run_tiny(tmp_path, options=options, network=network)
    written = (tmp_path / "last_model.pth").stat().st_size
    assert 0.9 * written < foreseen < written


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let disks say that they have some bytes left, and let no image be decoded."""

    def say(free: int) -> None:
        usage = type(shutil.disk_usage("/"))(10**12, 10**12 - free, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    return say


def nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("an image was decoded before the disk was found to be too small")


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "decode_images", nothing)


def test_a_training_whose_checkpoints_do_not_fit_is_refused(
    call: Any, pristine_dataset: Path, space: Any, undecoded: None
) -> None:
    space(20_000_000)
    said = complaint(call("train.py", *of(pristine_dataset), *TRAINING, "--run_dir=run"))
    assert "run: needs " in said and "its disk has 0.02 GB left" in said and "--save_dir" in said
    assert not list(Path("run").glob("*.pth"))


def test_database_and_queries_are_counted_together(
    call: Any, pristine_dataset: Path, space: Any, undecoded: None
) -> None:
    plain = ["--backbone=resnet18conv4", "--aggregation=gem", "--pretrain=none", *SMALL, "--run_dir=run"]
    # 24 database images and 16 queries of 256 dimensions: each alone would fit.
    space(40 * 256 * 4 - 1)
    said = complaint(call("eval.py", *of(pristine_dataset), *plain))
    assert "needs 0.04 MB, but its disk has 0.04 MB left" in said and "--descriptors_dtype float16" in said
    assert not list(Path("run").rglob("*.h5*"))


def test_what_is_there_is_not_counted_again(pristine_dataset: Path, space: Any, tmp_path: Path) -> None:
    split, inference = read_split(pristine_dataset, "test"), Inference((32, 32), 8, 0, Runtime())
    once = evaluate(network_of(), split, EvalOptions(), inference, tmp_path / "kept")
    space(0)
    again = evaluate(network_of(), split, EvalOptions(), inference, tmp_path / "kept")
    assert again.recalls == once.recalls and again.images_per_s == 0
    with pytest.raises(UserError, match=r"kept: needs 0\.04 MB"):
        evaluate(network_of(1), split, EvalOptions(), inference, tmp_path / "kept")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--pca_dim=999"], "--pca_dim 999"), (["--index=ivf", "--nlist=999"], "--nlist 999")],
)
def test_what_the_test_at_the_end_would_refuse_is_refused_before_a_training(
    call: Any, pristine_dataset: Path, undecoded: None, options: list[str], words: str
) -> None:
    assert words in complaint(call("train.py", *of(pristine_dataset), *TRAINING, *options, "--run_dir=run"))
    assert not list(Path("run").glob("*.pth"))
