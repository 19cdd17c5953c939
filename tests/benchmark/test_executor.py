import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vgbench.benchmark import executor
from vgbench.benchmark.executor import Call, LocalExecutor, last_line, ranks_of
from vgbench.benchmark.matrix import Job

GPUS = {"two": 2, "one": 1, "none": 1}


@pytest.fixture
def call(tmp_path):
    def of(name, code, gpus=1):
        job = Job(name, "train", "train", {}, gpus=gpus)
        # Through env, so that a job of several GPUs is not handed to torchrun, which takes no `-c`.
        return Call(job, ("env", sys.executable, "-c", code), tmp_path / f"{name}.log", dict(os.environ))

    return of


def wait(local, count):
    found = []
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        found += local.ended()
        time.sleep(0.01)
    return {call.job.run: reason for call, reason in found}


def test_as_many_at_a_time_as_asked_for(call, tmp_path):
    gate = tmp_path / "gate"
    code = f"import time, pathlib\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)"
    local, calls = LocalExecutor(jobs=2), [call(name, code) for name in "abc"]
    for one in calls[:2]:
        assert local.has_room(one)
        local.start(one)
    assert not local.has_room(calls[2]) and local.ended() == []
    gate.touch()
    assert wait(local, 2) == {"a": "", "b": ""} and local.has_room(calls[2])


def test_each_has_a_gpu_of_its_own(call):
    local = LocalExecutor(jobs=4, gpus=("4", "5", "6"))
    shell = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES; sleep 0.5")
    two, one, none = (replace(call(name, "", gpus=gpus), words=shell) for name, gpus in GPUS.items())
    local.start(two)
    assert local.has_room(one)
    local.start(one)
    assert not local.has_room(none), "all GPUs are taken"
    assert wait(local, 2) == {"two": "", "one": ""}
    assert (last_line(two.log, 0), last_line(one.log, 0)) == ("4,5", "6") and local.has_room(none)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit('error: no such file')", "no such file"),
        ("raise SystemExit(7)", "exit status 7, nothing printed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "ended by SIGTERM"),
    ],
)
def test_why_it_failed(call, code, reason):
    local = LocalExecutor()
    local.start(call("a", code))
    assert wait(local, 1) == {"a": reason}


def test_stopping_gives_time_to_save_and_then_ends(call, monkeypatch, tmp_path):
    monkeypatch.setattr(executor, "GRACE_SECONDS", 0.3)
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    kind = f"import time, pathlib\npathlib.Path({str(ready)!r}).touch()\ntry: time.sleep(60)\n" \
           f"except KeyboardInterrupt: pathlib.Path({str(saved)!r}).touch()"  # fmt: skip
    deaf = f"import time, signal, pathlib\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)"  # noqa: F541
    local = LocalExecutor(jobs=2)
    local.start(call("kind", kind))
    local.start(call("deaf", deaf))
    processes = [one.process for one in local._running]
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    local.stop()
    assert saved.exists() and processes[1].wait(10) == -signal.SIGKILL


def test_several_gpus_are_ranks_of_torchrun():
    words = (sys.executable, "-m", "vgbench", "train")
    assert ranks_of(words, 1) == words
    several = ranks_of(words, 3)
    assert several[1:3] == ("-m", "torch.distributed.run") and "--nproc_per_node=3" in several
    assert several[-3:] == words[1:]


def test_the_last_line_of_a_log_that_is_not_there(tmp_path):
    assert last_line(Path(tmp_path / "none.log"), 0) == ""
