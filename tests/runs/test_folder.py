"""Two jobs, one place: folders of their own, one at a time in a folder, and no job goes on with another's run."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from calls import TRAINING, complaint, of

from vgbench.benchmark.forked import Forked
from vgbench.cli.main import main
from vgbench.errors import UserError
from vgbench.retrieval.extraction.writer import DescriptorWriter, writing_alone
from vgbench.runs import folder as run_folder
from vgbench.runs import restart
from vgbench.runs.folder import after_restart, open_run_folder
from vgbench.runs.settings import RunOptions


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, rounds = 4, 40
    monkeypatch.setattr(run_folder, "datetime", _Stopped)
    barrier = threading.Barrier(runs)

    def one(parent: Path) -> Path:
        barrier.wait()
        return run_folder._fresh_folder(parent)

    with ThreadPoolExecutor(runs) as pool:
        for number in range(rounds):
            made = list(pool.map(one, [tmp_path / str(number)] * runs))
            assert len(set(made)) == runs
            assert all(path.is_dir() for path in made)


class _Stopped:
    """A clock that stands still."""

    class datetime:  # noqa: N801
        @staticmethod
        def now() -> Any:
            return _Stopped

    @staticmethod
    def strftime(layout: str) -> str:
        return "2026-01-01_00-00-00"


def test_a_folder_in_use_is_locked(tmp_path: Path) -> None:
    options = RunOptions(run_dir=tmp_path / "run")
    with open_run_folder(options):
        with pytest.raises(UserError, match="another run works in this folder"), open_run_folder(options):
            pass
        assert (tmp_path / "run" / "info.log").is_file()
    with open_run_folder(options):
        pass
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_finished_run_is_not_overwritten(call: Any, trained: Path, pristine_dataset: Path) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    line = complaint(call("train.py", *of(pristine_dataset), *TRAINING, f"--run_dir={trained}"))
    assert "of an earlier run" in line and f"--resume={trained}" in line
    assert {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before


def hold(words: Sequence[str]) -> int:
    """Be another run that writes descriptors, and takes long."""
    with writing_alone(Path(words[0])):
        Path(words[0] + ".partial").write_bytes(b"half")
        print("holding", flush=True)
        time.sleep(600)
    return 0


def started(command: Callable[[Sequence[str]], int], words: Sequence[str], log: Path, **more: Any) -> Forked:
    """Start a command as a process of its own, which has PyTorch loaded already."""
    with log.open("wb") as output:
        return Forked(command, words, output.fileno(), os.environ, **more)


def status_of(process: Forked, seconds: float = 120) -> int | None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    return process.returncode


def end(*processes: Forked | None) -> None:
    for process in filter(None, processes):
        process.send_signal(signal.SIGKILL)
        status_of(process)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "terminate"])
def test_who_waits_for_descriptors_goes_on_when_the_other_is_killed(
    number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, log = tmp_path / "database.h5", tmp_path / "other.log"
    other = started(hold, [str(path)], log)
    try:
        wait_for(lambda: log.read_text() == "holding\n", other, log)
        threading.Timer(1.0, os.kill, (other.pid, number)).start()
        begun = time.monotonic()
        with caplog.at_level(logging.INFO, logger="vgbench"), writing_alone(path):
            assert status_of(other, 10) == -number
            assert time.monotonic() - begun > 0.5
    finally:
        end(other)
    assert "another run is writing it; waiting for that" in caplog.text
    assert not path.with_name("database.h5.lock").exists()


def stop_after_a_batch(folder: Path) -> None:
    """Let this process describe its first batch, and wait there until it is told to go on."""
    write = DescriptorWriter.write

    def write_and_wait(self: DescriptorWriter, *rows: Any) -> None:
        write(self, *rows)
        (folder / "begun").touch()
        while not (folder / "go on").exists():
            time.sleep(0.02)

    DescriptorWriter.write = write_and_wait  # type: ignore[method-assign]


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_evaluation_waits_for_the_descriptors_of_the_first(
    killed: bool, trained: Path, pristine_dataset: Path, tmp_path: Path
) -> None:
    """Two processes, one checkpoint: the second takes what the first described, or goes on where it was killed."""
    words = [
        "eval", *of(pristine_dataset)[:1], f"--resume={trained / 'best_model.pth'}", "--resize", "56", "56",
        "--num_workers=0", "--infer_batch_size=4", "--report_queries=0",
    ]  # fmt: skip

    def start(name: str, **more: Any) -> Forked:
        return started(main, [*words, f"--run_dir={tmp_path / name}"], tmp_path / f"{name}.log", **more)

    first = start("first", begin=lambda: stop_after_a_batch(tmp_path))
    second = None
    try:
        wait_for(lambda: (tmp_path / "begun").exists(), first, tmp_path / "first.log")
        second = start("second")
        waiting = b"another run is writing it; waiting for that"
        wait_for(lambda: waiting in (tmp_path / "second.log").read_bytes(), second, tmp_path / "second.log")
        assert not list((tmp_path / "second").glob("predictions*"))
        if killed:
            first.send_signal(signal.SIGKILL)
        else:
            (tmp_path / "go on").touch()
        assert status_of(first) == (-signal.SIGKILL if killed else 0), (tmp_path / "first.log").read_text()
        assert status_of(second) == 0, (tmp_path / "second.log").read_text()
    finally:
        end(first, second)
    reused = b"same weights, images and preprocessing; reused" in (tmp_path / "second.log").read_bytes()
    assert reused != killed
    known = tmp_path / "first"
    if killed:
        shutil.rmtree(trained / "descriptors")
        assert status_of(start("calm")) == 0
        known = tmp_path / "calm"
    assert (known / "predictions.h5").read_bytes() == (tmp_path / "second" / "predictions.h5").read_bytes()
    assert not [path for path in trained.rglob("*") if path.suffix in (".lock", ".partial", ".progress")]


def wait_for(happens: Callable[[], bool], process: Forked, log: Path) -> None:
    end = time.monotonic() + 200
    while not happens():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.02)


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As one of two ranks that torchrun started, of a job with an id, for the first time."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "TORCHELASTIC_RUN_ID": "job/7",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def checkpointed(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "last_model.pth").touch()
    return folder


def test_a_restarted_job_goes_on_with_its_own_run(launched: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert after_restart({"lr": 1}) == {"lr": 1}
    restart.remember(checkpointed(tmp_path / "mine"))
    launched.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert after_restart({"lr": 1}) == {"lr": 1, "resume": tmp_path / "mine" / "last_model.pth"}


def test_a_second_job_of_one_id_does_not_go_on_with_the_first(launched: pytest.MonkeyPatch, tmp_path: Path) -> None:
    restart.remember(checkpointed(tmp_path / "others"))  # and was killed
    assert after_restart({}) == {}
    launched.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # before it had a folder of its own
    assert after_restart({}) == {}


def test_nor_does_one_that_runs_beside_it(launched: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    restart.remember(checkpointed(tmp_path / "others"))
    assert "resume" in after_restart({})
    launched.setattr(os, "getppid", lambda: 1)
    assert after_restart({}) == {}


def test_a_damaged_note_is_passed_over(launched: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    for text in ("", "[]", "{}", '{"folder": 3, "job": {}}', "logs/default/old"):
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / ".torchrun-job_7").write_text(text)
        assert after_restart({}) == {}


def test_nothing_is_left_of_a_job_that_ended_well(launched: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open_run_folder(RunOptions(run_dir=tmp_path / "run")):
        assert list((tmp_path / "logs").iterdir())
    assert not list((tmp_path / "logs").iterdir())
