"""An interrupted and resumed run ends as an uninterrupted one, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_training
import torch
from tiny_training import TinyMode, run_tiny, states_equal, tiny_network, weight_recall

from vgbench.models.weights import read_checkpoint
from vgbench.training import Checkpoints
from vgbench.training import checkpoint as checkpoint_module


class Killed(BaseException):
    """As abrupt as a signal: nothing catches it."""


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
    from vgbench.training import Watch, train

    network = tiny_network(3)
    with Watch(new, tensorboard=False) as watch:
        result = train(
            network, TinyMode(), weight_recall, tiny_training.OPTIONS, Runtime(), Checkpoints(new, {}, {}), watch, 0,
            resume=old / "last_model.pth",
        )  # fmt: skip
    assert_same_end(new, network, uninterrupted, result)


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
    root = str(Path(__file__).resolve().parents[2])
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
