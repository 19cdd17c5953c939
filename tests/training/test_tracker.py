"""Weights & Biases, offline where it is installed, pretended elsewhere; and TensorBoard's table of hyperparameters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from vgbench.errors import UserError
from vgbench.training.checkpoint import Progress
from vgbench.training.metrics_logger import MetricsLogger
from vgbench.training.tracker import check_tracker, tracked


class Pretended:
    """As much of wandb as is used."""

    def __init__(self) -> None:
        self.began: list[dict[str, Any]] = []
        self.logged: list[dict[str, float]] = []
        self.summary: dict[str, Any] = {}
        self.finished: list[int] = []
        self.id = "abc123"

    def init(self, **given: Any) -> Pretended:
        self.began.append(given)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) in (("train/*", "steps"), ("val/*", "epoch"))

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.finished.append(exit_code)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    pretended = Pretended()
    monkeypatch.setitem(sys.modules, "wandb", pretended)  # type: ignore[arg-type]
    return pretended


def test_a_run_sends_what_it_writes(wandb: Pretended, tmp_path: Path) -> None:
    with (
        tracked("vg", tmp_path, {"lr": 0.1}) as tracker,
        MetricsLogger(tmp_path, tensorboard=False, tracker=tracker) as watch,
    ):
        watch.round(Progress(steps=4), 0, {"loss": 0.5})
        watch.epoch(Progress(epoch=1, steps=4), 0.5, {1: 60.0, 5: 80.0})
        watch.outcome({"lr": 0.1}, {"best R@5": 80.0})
    assert wandb.began[0]["project"] == "vg" and wandb.began[0]["config"] == {"lr": 0.1}
    assert wandb.logged == [
        {"steps": 4, "train/loss": 0.5},
        {"epoch": 1, "val/loss": 0.5, "val/R@1": 60.0, "val/R@5": 80.0},
    ]
    assert wandb.summary == {"best R@5": 80.0} and wandb.finished == [0]


def test_a_resumed_run_is_the_same_run_there(wandb: Pretended, tmp_path: Path) -> None:
    for _ in range(2):
        with tracked("vg", tmp_path, {}):
            pass
    assert [one["id"] for one in wandb.began] == [None, "abc123"]


def test_a_run_that_fails_is_marked_so(wandb: Pretended, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), tracked("vg", tmp_path, {}):
        raise ZeroDivisionError
    assert wandb.finished == [1]


def test_not_logged_in_is_one_line(wandb: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**given: Any) -> None:
        raise RuntimeError("api_key not configured (no-tty)")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match=r"--wandb vg: .*api_key not configured.*wandb login.*WANDB_MODE=offline"):
        tracked("vg", tmp_path, {}).__enter__()


def test_without_the_library_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # type: ignore[arg-type]
    check_tracker(None)
    with pytest.raises(
        UserError, match=r"--wandb vg: wandb is not installed. Expected `pip install 'vgbench\[wandb\]'`"
    ):
        check_tracker("vg")


def test_with_the_library_itself_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with (
        tracked("vg", tmp_path, {"lr": 0.1}) as tracker,
        MetricsLogger(tmp_path, tensorboard=False, tracker=tracker) as watch,
    ):
        watch.round(Progress(steps=4), 0, {"loss": 0.5})
        watch.outcome({"lr": 0.1}, {"best R@5": 80.0})
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb")) and (tmp_path / "wandb.id").is_file()


def test_tensorboard_has_the_options_and_what_came_of_them(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    with MetricsLogger(tmp_path) as watch:
        watch.outcome({"lr": 0.1, "resize": (3, 4), "unset": None}, {"best R@5": 80.0})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "val")).Reload()
    assert events.Scalars("best R@5")[0].value == 80
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    known = plugin.HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: value.number_value or value.string_value for name, value in known.items()} == {
        "lr": 0.1,
        "resize": "(3, 4)",
    }
