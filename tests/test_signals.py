"""Signals that schedulers send: the run ends in one line and can go on, or goes on at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from calls import REPOSITORY, TRAINING, of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def started(script: str, *words: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / script), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for(text: str, path: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 200
    while not (path.is_file() and text in path.read_text(errors="replace")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def training(pristine_dataset: Path, tmp_path: Path) -> Any:
    """A training that would take long, after its first round."""
    usual = [word for word in TRAINING if "epochs_num" not in word]
    words = [*of(pristine_dataset), *usual, "--epochs_num=500", "--patience=500", f"--run_dir={tmp_path / 'run'}"]
    process = started("train.py", *words, folder=tmp_path)
    try:
        wait_for("round 1 of", tmp_path / "run" / "info.log", process)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("name", "status", "word"), [("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")])
def test_a_training_that_is_told_to_end_says_how_to_go_on(
    name: str, status: int, word: str, training: Any, tmp_path: Path
) -> None:
    training.send_signal(signal.SIGUSR1)
    wait_for("SIGUSR1: ", tmp_path / "run" / "info.log", training)
    training.send_signal(getattr(signal, name))
    _, err = training.communicate(timeout=60)
    assert training.returncode == status, err
    lines = err.strip().splitlines()
    assert "Traceback" not in err and lines[-1].startswith(f"{word}; to go on: ")
    assert f"--resume={tmp_path / 'run'}" in lines[-1]
    assert (tmp_path / "run" / "last_model.pth").is_file()
    assert not (tmp_path / "run" / ".lock").exists()


def wait_until_it_listens(process: subprocess.Popen[Any]) -> None:
    """Wait until Python itself is up, which takes as long as the machine likes, and the command's work has begun."""
    status, deadline = Path(f"/proc/{process.pid}/status"), time.monotonic() + 60
    while status.parent.parent.is_dir() and time.monotonic() < deadline:
        caught = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt:")]
        if not caught or int(caught[0], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5])
def test_ctrl_c_while_it_starts_prints_no_traceback(after: float, tmp_path: Path) -> None:
    process = started("train.py", "--dataset_name=none", folder=tmp_path)
    wait_until_it_listens(process)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert process.returncode in (130, 2, -signal.SIGINT)


def test_nohup_stays_nohup(tmp_path: Path) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from vgbench.cli.exits import ended\n"
        "print(ended(lambda: os.kill(os.getpid(), signal.SIGHUP)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n", done.stderr


MATRIX = """
runs:
  - name: long
    train: {{datasets_folder: {folder}, dataset_name: {name}, resize: [64, 64], num_workers: 0, pretrain: none,
             epochs_num: 500, patience: 500, queries_per_epoch: 8, cache_refresh_rate: 4, neg_samples_num: 10,
             negs_num_per_query: 2, train_batch_size: 2, netvlad_clusters: 4}}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a killed process's children")
def test_a_benchmark_that_is_killed_takes_its_jobs_along_and_can_be_started_again(
    pristine_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "long.yaml").write_text(MATRIX.format(folder=pristine_dataset.parent, name=pristine_dataset.name))
    process = started("benchmark.py", "long.yaml", folder=tmp_path)
    run = tmp_path / "logs" / "benchmarks" / "long" / "long" / "train"
    try:
        wait_for("round 1 of", run / "info.log", process)
    finally:
        process.kill()
    process.communicate()
    again = started("benchmark.py", "long.yaml", folder=tmp_path)
    try:
        wait_for("resumed ", run / "info.log", again)
    finally:
        again.send_signal(signal.SIGTERM)
        out, err = again.communicate(timeout=60)
    assert again.returncode == 143 and "Traceback" not in err, (out, err)
    assert not (run / ".lock").exists()


def test_a_benchmark_that_is_terminated_ends_its_jobs(pristine_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(MATRIX.format(folder=pristine_dataset.parent, name=pristine_dataset.name))
    process = started("benchmark.py", "long.yaml", folder=tmp_path)
    try:
        [run] = [tmp_path / "logs" / "benchmarks" / "long" / "long" / "train"]
        wait_for("round 1 of", run / "info.log", process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143 and "Traceback" not in err, err
    time.sleep(0.2)
    size = (run / "info.log").stat().st_size
    time.sleep(1.5)
    assert (run / "info.log").stat().st_size == size and not (run / ".lock").exists()
