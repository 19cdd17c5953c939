"""Checkpoints: whole or not at all, safe to read, readable from elsewhere."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vgbench.errors import UserError
from vgbench.models.weights import read_checkpoint
from vgbench.training.checkpoint import Checkpoints, Progress, States, is_resumable, save_checkpoint


def test_what_is_saved_comes_back_without_running_code(tmp_path):
    path = tmp_path / "last_model.pth"
    content = {
        "model_state_dict": {"w": torch.randn(3)},
        "options": {"folder": Path("a/b"), "resize": (480, 640), "none": None, 5: np.float64(0.1), "n": np.int64(3)},
    }
    save_checkpoint(path, content)
    back = torch.load(path, weights_only=True)
    assert torch.equal(back["model_state_dict"]["w"], content["model_state_dict"]["w"])
    assert back["options"] == {"folder": "a/b", "resize": (480, 640), "none": None, 5: 0.1, "n": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last_model.pth"]


@pytest.mark.parametrize("where", ["serialise", "flush", "rename"])
def test_an_interruption_while_writing_leaves_the_old_one(tmp_path, monkeypatch, where):
    path = tmp_path / "last_model.pth"
    save_checkpoint(path, {"model_state_dict": {"w": torch.zeros(1)}})

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    def half(content, file):
        file.write(b"half")
        raise Killed

    if where == "serialise":
        monkeypatch.setattr(torch, "save", half)
    elif where == "flush":
        monkeypatch.setattr(os, "fsync", killed)
    else:
        monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Killed):
        save_checkpoint(path, {"model_state_dict": {"w": torch.ones(1)}})
    monkeypatch.undo()
    assert read_checkpoint(path)["model_state_dict"]["w"] == 0
    save_checkpoint(path, {"model_state_dict": {"w": torch.ones(1)}})  # what the interruption left is no hindrance
    assert read_checkpoint(path)["model_state_dict"]["w"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last_model.pth"]


def test_a_full_disk_is_one_line_and_keeps_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "last_model.pth"
    save_checkpoint(path, {"model_state_dict": {"w": torch.zeros(1)}})

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"last_model.pth: cannot be written.*No space left"):
        save_checkpoint(path, {"model_state_dict": {}})
    assert read_checkpoint(path)["model_state_dict"]["w"] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["last_model.pth"]


def test_the_keys_are_the_benchmarks_and_ours(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"backbone": "b"}, {"lr": 0.1})
    progress = Progress(epoch=4, best_r5=81.0, best_epoch=2, not_improved_num=1)
    checkpoints.save(checkpoints.last, progress, {1: 70.0, 5: 80.0}, States({}, {}, {}, {}))
    content = read_checkpoint(checkpoints.last)
    legacy = {"epoch_num", "model_state_dict", "optimizer_state_dict", "recalls", "best_r5", "not_improved_num"}
    ours = {"network_config", "options", "progress", "mode_state", "scaler", "version"}
    assert content.keys() == legacy | ours
    assert content["best_r5"] == 81.0 and content["recalls"] == {1: 70.0, 5: 80.0}
    assert Progress(**content["progress"]) == progress and is_resumable(content)


@pytest.mark.parametrize("old_numpy", [False, True])
def test_released_checkpoints_with_numpy_recalls_load(tmp_path, old_numpy):
    path = tmp_path / "released.pth"
    content = {
        "epoch_num": 7,
        "model_state_dict": {"module.w": torch.ones(2)},
        "recalls": np.array([80.0, 90.0]),
        "best_r5": np.float64(90.0),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    if old_numpy:  # files from before NumPy 2 name its private module differently
        assert b"numpy._core.multiarray" in data
        data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(data)
    back = read_checkpoint(path)
    assert back["best_r5"] == 90.0 and back["recalls"].tolist() == [80.0, 90.0] and not is_resumable(back)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(Evil()), "cut"])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "last_model.pth"
    if content == "cut":
        save_checkpoint(path, {"model_state_dict": {"w": torch.zeros(1000)}})
        content = path.read_bytes()[:2000]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last_model\.pth: "):
        read_checkpoint(path)
    with pytest.raises(UserError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pth")


def test_a_run_resumed_elsewhere_takes_its_best_checkpoint_and_metrics_along(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    for name in ("best_model.pth", "metrics.jsonl", "last_model.pth"):
        (old / name).write_text(name)
    Checkpoints(new, {}, {}).adopt(old / "last_model.pth")
    assert {file.name: file.read_text() for file in new.iterdir()} == {
        "best_model.pth": "best_model.pth",
        "metrics.jsonl": "metrics.jsonl",
    }
    for file in old.iterdir():
        os.utime(file, (1, 1))
    before = {file.name: file.stat().st_mtime_ns for file in old.iterdir()}
    Checkpoints(old, {}, {}).adopt(old / "last_model.pth")
    assert before == {file.name: file.stat().st_mtime_ns for file in old.iterdir()}
