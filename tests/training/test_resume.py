"""An interrupted and resumed run ends as an uninterrupted one, bit for bit."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tiny_training
import torch
from locations import REPOSITORY
from tiny_training import TinyMode, run_tiny, states_equal, tiny_network, weight_recall

from vgbench.models.weights import read_checkpoint
from vgbench.training import Checkpoints, EpochRecalls
from vgbench.training import checkpoint as checkpoint_module


class Killed(BaseException):
    """As abrupt as a signal: nothing catches it."""


VARIANTS = {
    "adamw, accumulated, clipped": {"optim": "adamw", "accumulate_steps": 3, "clip_grad_norm": 0.1},
    "sgd, nesterov, cosine": {"optim": "sgd", "nesterov": True, "schedule": "cosine", "warmup_epochs": 0.4},
    "asgd, one-cycle": {"optim": "asgd", "schedule": "onecycle"},
    "rmsprop, plateau": {"optim": "rmsprop", "momentum": 0.5, "schedule": "plateau", "plateau_patience": 1},
    "adagrad, exponential": {"optim": "adagrad", "schedule": "exponential", "warmup_epochs": 1.0},
    "adam, multistep": {"schedule": "multistep", "milestones": (1, 2)},
    "adam, step": {"schedule": "step", "schedule_step": 1},
    "averaged": {"ema_decay": 0.7},
    "averaged, accumulated": {"ema_decay": 0.7, "accumulate_steps": 3, "optim": "sgd", "schedule": "cosine"},
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    result, network = run_tiny(folder)
    return folder, result, network


def numbers(folder):
    """metrics.jsonl without the times."""
    import json

    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in rows]


def assert_same_end(folder, network, uninterrupted, result=None):
    whole_folder, whole_result, whole = uninterrupted
    assert states_equal(network, whole)
    assert numbers(folder) == numbers(whole_folder)
    for name in ("last_model.pth", "best_model.pth"):
        one, other = read_checkpoint(folder / name), read_checkpoint(whole_folder / name)
        assert all(torch.equal(one["model_state_dict"][key], value) for key, value in other["model_state_dict"].items())
        for moments, expected in zip(
            one["optimizer_state_dict"]["state"].values(), other["optimizer_state_dict"]["state"].values(), strict=True
        ):
            assert all(torch.equal(moments[key], expected[key]) for key in expected)
        one["progress"].pop("seconds"), other["progress"].pop("seconds")
        assert one["progress"] == other["progress"] and one["recalls"] == other["recalls"]
        assert torch.equal(one["mode_state"]["memory"], other["mode_state"]["memory"])
    if result is not None:
        assert (result.best_epoch, result.best_r5, result.steps) == (
            whole_result.best_epoch, whole_result.best_r5, whole_result.steps,
        )  # fmt: skip


@pytest.mark.parametrize("at", [(0, 0, 0), (0, 0, 3), (0, 1, 0), (0, 2, 2), (1, 0, 0), (2, 2, 3)])
def test_killed_at_a_step(tmp_path, uninterrupted, at):
    def kill(*place):
        if place == at:
            raise Killed

    with pytest.raises(Killed):
        run_tiny(tmp_path, mode=TinyMode(kill))
    torch.rand(17), random.random()  # the new process's generators stand elsewhere
    mode = TinyMode()
    result, network = run_tiny(tmp_path, mode=mode, resume=True)
    assert mode.rounds[0] == at[:2]  # nothing that was finished is done again
    assert_same_end(tmp_path, network, uninterrupted, result)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_killed_in_a_validation(tmp_path, uninterrupted, epoch):
    def validate(network, now):
        if now == epoch:
            raise Killed
        return weight_recall(network, now)

    with pytest.raises(Killed):
        run_tiny(tmp_path, validate=validate)
    mode = TinyMode()
    result, network = run_tiny(tmp_path, mode=mode, resume=True)
    assert len(mode.rounds) == 3 * (2 - epoch)
    assert_same_end(tmp_path, network, uninterrupted, result)


@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("count", [2, 4, 5, 6, 7, 11])
def test_killed_around_any_write_of_a_checkpoint(tmp_path, monkeypatch, uninterrupted, moment, count):
    """The writes are, in turn: the start; rounds 0, 1, 2; best; last; ... The first of all leaves nothing to resume."""
    save, written = checkpoint_module.save_checkpoint, []

    def interrupted(path, content):
        written.append(path.name)
        if len(written) == count:
            if moment == "after":
                save(path, content)
            if moment == "during":
                path.with_name(path.name + ".partial").write_bytes(b"half a checkpoint")
            raise Killed
        save(path, content)

    monkeypatch.setattr(checkpoint_module, "save_checkpoint", interrupted)
    with pytest.raises(Killed):
        run_tiny(tmp_path)
    monkeypatch.undo()
    result, network = run_tiny(tmp_path, resume=True)
    assert_same_end(tmp_path, network, uninterrupted, result)
    assert not list(tmp_path.glob("last_model.pth.partial"))


def test_killed_again_and_again(tmp_path, uninterrupted):
    resume, network = False, None
    for place in [(0, 0, 2), (0, 1, 1), (0, 1, 1), (1, 0, 0), (2, 1, 3)]:

        def kill(*now, place=place):
            if now == place:
                raise Killed

        with pytest.raises(Killed):
            run_tiny(tmp_path, mode=TinyMode(kill), resume=resume)
        resume = True
    _, network = run_tiny(tmp_path, resume=True)
    assert_same_end(tmp_path, network, uninterrupted)


def test_resuming_a_finished_run_does_nothing(tmp_path, uninterrupted):
    first, _ = run_tiny(tmp_path)
    before = (tmp_path / "last_model.pth").read_bytes()
    mode = TinyMode()
    result, network = run_tiny(tmp_path, mode=mode, resume=True)
    assert mode.rounds == [] and (tmp_path / "last_model.pth").read_bytes() == before
    assert result == first
    assert_same_end(tmp_path, network, uninterrupted, result)


def test_resuming_elsewhere_ends_the_same(tmp_path, uninterrupted):
    def kill(*place):
        if place == (2, 1, 1):
            raise Killed

    old, new = tmp_path / "old", tmp_path / "new"
    with pytest.raises(Killed):
        run_tiny(old, mode=TinyMode(kill))
    new.mkdir()
    from vgbench.runtime import Runtime
    from vgbench.training import MetricsLogger, Run, train

    network = tiny_network(3)
    with MetricsLogger(new, tensorboard=False) as watch:
        result = train(
            network, TinyMode(), weight_recall, tiny_training.OPTIONS, Runtime(),
            Run(Checkpoints(new, {}, {}), watch, 0, old / "last_model.pth"),
        )  # fmt: skip
    assert_same_end(new, network, uninterrupted, result)


def falling_recall(network, epoch):
    """R@5 that gets worse, so that a plateau is found; R@1 shows the weights."""
    found = weight_recall(network, epoch).recalls
    return EpochRecalls({1: found[1], 5: 90.0 - 10 * epoch})


@pytest.mark.parametrize("at", [(0, 1, 2), (1, 0, 0), (2, 1, 3)])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_optimiser_and_schedule_resumes_to_the_same(tmp_path, name, at):
    def kill(*place):
        if place == at:
            raise Killed

    options = dataclasses.replace(tiny_training.OPTIONS, patience=9, **VARIANTS[name])
    both = {"options": options, "validate": falling_recall}
    whole_result, whole = run_tiny(tmp_path / "whole", **both)
    with pytest.raises(Killed):
        run_tiny(tmp_path / "killed", mode=TinyMode(kill), **both)
    result, network = run_tiny(tmp_path / "killed", resume=True, **both)
    assert_same_end(tmp_path / "killed", network, (tmp_path / "whole", whole_result, whole), result)
    ends = [read_checkpoint(tmp_path / folder / "last_model.pth") for folder in ("whole", "killed")]
    rates = [[group["lr"] for group in end["optimizer_state_dict"]["param_groups"]] for end in ends]
    assert rates[0] == rates[1]
    if options.schedule != "none":
        assert rates[0] != [options.lr]
    if options.ema_decay:
        one, other = (end["ema"]["averaged"] for end in ends)
        assert all(torch.equal(one[key], other[key]) for key in one) and ends[0]["ema"]["updates"] == result.steps


@pytest.mark.parametrize("variant", [{"ema_decay": 0.7}, {"ema_decay": 0.7, "schedule": "cosine"}])
def test_resumed_from_the_best_averaged_checkpoint_it_ends_the_same(tmp_path, variant):
    """best_model.pth has the averaged weights for everybody, and the trained ones for whoever goes on from it."""
    options = dataclasses.replace(tiny_training.OPTIONS, patience=9, **variant)
    both = {"options": options, "validate": falling_recall}
    whole_result, whole = run_tiny(tmp_path / "whole", **both)
    assert whole_result.best_epoch == 0
    (tmp_path / "again").mkdir()
    for name in ("best_model.pth", "last_model.pth"):
        shutil.copy(tmp_path / "whole" / "best_model.pth", tmp_path / "again" / name)
    shutil.copy(tmp_path / "whole" / "metrics.jsonl", tmp_path / "again")
    result, network = run_tiny(tmp_path / "again", resume=True, **both)
    assert_same_end(tmp_path / "again", network, (tmp_path / "whole", whole_result, whole), result)


def test_a_resumed_run_takes_its_own_base_rate_and_the_schedule_goes_on(tmp_path):
    options = dataclasses.replace(tiny_training.OPTIONS, schedule="step", schedule_step=1, lr=1e-2)
    run_tiny(tmp_path, options=dataclasses.replace(options, epochs_num=2))
    run_tiny(tmp_path, options=dataclasses.replace(options, lr=3e-2), resume=True)
    [group] = read_checkpoint(tmp_path / "last_model.pth")["optimizer_state_dict"]["param_groups"]
    assert group["initial_lr"] == 3e-2 and group["lr"] == pytest.approx(3e-4)


def test_another_length_of_a_schedule_over_the_whole_run_is_told(tmp_path, caplog):
    def run(name, now, **options):
        settings = dataclasses.replace(tiny_training.OPTIONS, epochs_num=now, **options)
        stored = {"lr": 1e-2, "epochs_num": now, "schedule": settings.schedule, "schedule_epochs": None}
        caplog.clear()
        with caplog.at_level("WARNING", logger="vgbench"):
            run_tiny(
                tmp_path / name, options=settings, resume=now == 2, checkpoints=Checkpoints(tmp_path / name, {}, stored)
            )
        return [record.getMessage() for record in caplog.records]

    run("cosine", 3, schedule="cosine")
    assert any("--epochs_num is 2" in message for message in run("cosine", 2, schedule="cosine"))
    run("none", 3)
    assert run("none", 2) == []


def stamp(path):
    return path.stat().st_mtime_ns if path.exists() else None


@pytest.mark.slow
def test_killed_by_a_signal(tmp_path):
    """SIGKILL at random times, three times; each process gets at least one checkpoint further, the fourth finishes."""
    torch.set_num_threads(1)
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    _, expected = run_tiny(whole)
    folder.mkdir()
    last = folder / "last_model.pth"
    command = [sys.executable, tiny_training.__file__, str(folder), "0.05"]
    root = str(REPOSITORY)
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    pick, reached = random.Random(0), []
    for _ in range(3):
        before = stamp(last)
        process = subprocess.Popen(command, env=environment)
        try:
            while stamp(last) == before:
                assert process.poll() is None
                time.sleep(0.005)
            time.sleep(pick.uniform(0, 0.5))
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        progress = read_checkpoint(last)["progress"]
        reached.append((progress["epoch"], progress["round"]))
    assert reached == sorted(reached) and reached[-1] > (0, 0)
    subprocess.run(command, env=environment, check=True)
    network = tiny_network(5)
    network.load_state_dict(read_checkpoint(last)["model_state_dict"])
    assert states_equal(network, expected)
    assert numbers(folder) == numbers(whole)
