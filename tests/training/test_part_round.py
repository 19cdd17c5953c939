"""A training that is told to end, or to save, does so after its step, and goes on from there to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_training
import torch
from calls import SMALL, TRAINING, of, run_here
from tiny_training import TinyMode, run_tiny, states_equal

from vgbench.errors import Stopped, UserError
from vgbench.models.weights import read_checkpoint
from vgbench.signals import answering, ending_cleanly
from vgbench.training.checkpoint import PART
from vgbench.training.optimisation.step import Stepper

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
LAST = "last_model.pth"


class Killed(BaseException):
    """As abrupt as a signal: nothing catches it."""


def sending(*signals: tuple[tuple[int, int, int], int]) -> Callable[[int, int, int], None]:
    """Return what sends this process signals, each in the midst of a step (epoch, round, step)."""

    def send(*place: int) -> None:
        for at, number in signals:
            if place == at:
                os.kill(os.getpid(), number)

    return send


def numbers(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in rows]


def assert_same(folder: Path, whole: Path) -> None:
    assert numbers(folder) == numbers(whole)
    for name in (LAST, "best_model.pth"):
        one, other = read_checkpoint(folder / name), read_checkpoint(whole / name)
        one["progress"].pop("seconds"), other["progress"].pop("seconds")
        for facts in (one["options"], other["options"]):
            facts.pop("resume", None), facts.pop("run_dir", None)
        assert same(one, other) and PART not in one


def same(one: Any, other: Any) -> bool:
    """Whether two stored values are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("options", [{}, {"accumulate_steps": 2}, {"ema_decay": 0.7, "optim": "adamw"}], ids=str)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("at", [(0, 0, 0), (1, 1, 1), (2, 2, 2), (1, 2, 3)])
def test_told_to_end_it_saves_after_the_step(
    at: tuple[int, int, int], number: int, options: dict[str, Any], tmp_path: Path
) -> None:
    import dataclasses

    chosen = dataclasses.replace(tiny_training.OPTIONS, **options)
    _, whole = run_tiny(tmp_path / "whole", options=chosen)
    with pytest.raises(KeyboardInterrupt) as caught, ending_cleanly():
        run_tiny(tmp_path / "run", options=chosen, mode=TinyMode(sending((at, number))))
    assert getattr(caught.value, "number", signal.SIGINT) == number
    stored = read_checkpoint(tmp_path / "run" / LAST)
    together = options.get("accumulate_steps", 1)
    done = at[2] + together - at[2] % together
    steps_a_round = TinyMode.steps // together
    assert stored["progress"]["steps"] == (at[0] * 3 + at[1]) * steps_a_round + done // together
    assert (PART in stored) == (done < TinyMode.steps)
    if PART in stored:
        assert len(stored[PART]["losses"]) == done
    torch.rand(7)  # the new process's generators stand elsewhere
    trained: list[tuple[int, int, int]] = []
    _, network = run_tiny(
        tmp_path / "run", options=chosen, resume=True, mode=TinyMode(lambda *place: trained.append(place))
    )
    assert states_equal(network, whole)
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert len(trained) == 36 - (at[0] * 3 + at[1]) * TinyMode.steps - done  # no step is done again


def test_sigusr1_saves_and_goes_on_and_twice_in_a_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_tiny(tmp_path / "whole")
    send = sending(((1, 0, 0), signal.SIGUSR1), ((1, 0, 1), signal.SIGUSR1))

    def then_die(*place: int) -> None:
        send(*place)
        if place == (1, 0, 3):
            raise Killed

    caplog.set_level("INFO")
    with pytest.raises(Killed), answering("not now", print):
        run_tiny(tmp_path / "run", mode=TinyMode(then_die))
    said = [record.getMessage() for record in caplog.records if "SIGUSR1" in record.getMessage()]
    assert [line.rpartition("has everything ")[2] for line in said] == [
        "up to step 13; going on",
        "up to step 14; going on",
    ]
    # In another folder, and interrupted once more before its first round is over.
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    with pytest.raises(Stopped), ending_cleanly():
        run_tiny(tmp_path / "other", resume=True, mode=TinyMode(sending(((1, 0, 0), signal.SIGTERM))))
    assert len(read_checkpoint(tmp_path / "other" / LAST)[PART]["losses"]) == 3
    run_tiny(tmp_path / "other", resume=True)
    assert_same(tmp_path / "other", tmp_path / "whole")


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    def twice(*place: int) -> None:
        if place == (0, 1, 1):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("not reached")

    with pytest.raises(Stopped), ending_cleanly():
        run_tiny(tmp_path, mode=TinyMode(twice))
    assert PART not in read_checkpoint(tmp_path / LAST)


@pytest.mark.parametrize("spoilt", ["losses", "images", "generators", "start"])
def test_a_spoilt_part_is_refused_in_one_line(spoilt: str, tmp_path: Path) -> None:
    with pytest.raises(Stopped), ending_cleanly():
        run_tiny(tmp_path, mode=TinyMode(sending(((0, 1, 1), signal.SIGTERM))))
    content = read_checkpoint(tmp_path / LAST)
    for wrong in (None, "x", {"x": 1}, [float("nan")]):
        content[PART][spoilt] = wrong
        torch.save(content, tmp_path / LAST)
        with pytest.raises(UserError, match=r"last_model\.pth"):
            run_tiny(tmp_path, resume=True)


PLAIN = [*SMALL, "--pretrain=none", "--aggregation=gem"]
PLACES = ["--train_mode=places", "--places_per_batch=2", "--img_per_place=2", "--min_img_per_place=2"]
MODES = {
    "triplets": TRAINING,
    "with workers": [word for word in TRAINING if word not in ("--num_workers", "0")] + ["--num_workers", "2"],
    "places": [*PLAIN, *PLACES],
    "classes": [
        *PLAIN, "--train_mode=classes", "--iterations_per_epoch=3", "--images_per_batch=4", "--min_images_per_class=1",
        "--groups_num=1", "--N=1", "--L=1",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "mode", ["triplets", "places", "classes", pytest.param("with workers", marks=pytest.mark.slow)]
)
def test_every_way_to_train_goes_on_after_its_step(
    mode: str,
    pristine_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*of(pristine_dataset), *MODES[mode], "--epochs_num=1", "--backbone=efficientnet_lite0_s16"]
    assert run_here("train.py", *words, f"--run_dir={tmp_path / 'whole'}") == 0, capsys.readouterr().err
    steps, update = [0], Stepper.update

    def update_and_signal(*args: Any) -> None:
        update(*args)
        steps[0] += 1
        if steps[0] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Stepper, "update", update_and_signal)
    capsys.readouterr()
    assert run_here("train.py", *words, f"--run_dir={tmp_path / 'run'}") == 143, capsys.readouterr().err
    assert "terminated; to go on: " in capsys.readouterr().err
    stored = read_checkpoint(tmp_path / "run" / LAST)
    assert stored["progress"]["steps"] == 1 and len(stored[PART]["losses"]) == 1
    assert run_here("train.py", f"--resume={tmp_path / 'run'}") == 0, capsys.readouterr().err
    assert_same(tmp_path / "run", tmp_path / "whole")
    results = [json.loads((tmp_path / name / "results.json").read_text())["recalls"] for name in ("run", "whole")]
    assert results[0] == results[1]
