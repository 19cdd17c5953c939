"""Ranks that srun starts: who is who, where they meet, and a job that is queued again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from calls import REPOSITORY, of
from tiny_city import write_dataset

from vgbench.cli.exits import ended
from vgbench.errors import UserError
from vgbench.models.weights import read_checkpoint
from vgbench.runs import restart
from vgbench.runs.folder import after_restart
from vgbench.srun import first_machine, take_ranks

TINY = [
    "--backbone=resnet18conv4", "--aggregation=gem", "--pretrain=none", "--resize", "48", "48", "--num_workers=0",
    "--device=cpu", "--amp=off", "--infer_batch_size=4", "--epochs_num=1", "--optim=sgd", "--lr=0.001", "--freeze_bn",
    "--queries_per_epoch=4", "--cache_refresh_rate=4", "--negs_num_per_query=2", "--margin=1",
]  # fmt: skip


def variables(rank: int = 1, tasks: int = 4, nodes: str = "gpu[03-04]") -> dict[str, str]:
    return {
        "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % 2),
        "SLURM_STEP_NODELIST": nodes, "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0",
    }  # fmt: skip


def test_srun_says_who_is_who() -> None:
    environment = variables(rank=3)
    take_ranks(environment)
    assert [environment[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")] == ["3", "4", "1"]
    assert environment["MASTER_ADDR"] == "gpu03"
    other = variables(rank=0)
    take_ranks(other)
    assert other["MASTER_PORT"] == environment["MASTER_PORT"]


def test_another_step_meets_elsewhere() -> None:
    ports = set()
    for step in range(5):
        environment = variables() | {"SLURM_STEP_ID": str(step)}
        take_ranks(environment)
        ports.add(environment["MASTER_PORT"])
    assert len(ports) == 5


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ("gpu01", "gpu01"),
        ("gpu[01-03,07]", "gpu01"),
        ("gpu[7],login", "gpu7"),
        ("a-1,b-2", "a-1"),
        ("rack2-gpu[009-010]-ib", "rack2-gpu009-ib"),
    ],
)
def test_the_first_machine_of_a_list(names: str, first: str) -> None:
    assert first_machine(names) == first


@pytest.mark.parametrize("names", ["", ",", "[1-2]"])
def test_a_list_without_a_machine_is_refused(names: str) -> None:
    with pytest.raises(UserError, match="MASTER_ADDR"):
        first_machine(names)


def test_variables_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="SLURM_PROCID 'x'"):
        take_ranks(variables() | {"SLURM_PROCID": "x"})


@pytest.mark.parametrize("extra", [{"SLURM_STEP_NUM_TASKS": "1"}, {"RANK": "0"}])
def test_one_task_and_ranks_of_torchrun_are_left_alone(extra: dict[str, str]) -> None:
    environment = variables() | extra
    before = dict(environment)
    take_ranks(environment)
    assert environment == before


def test_a_job_script_without_srun_is_one_process() -> None:
    environment = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    take_ranks(environment)
    assert "RANK" not in environment


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As rank 0 of a step that srun runs for the first time."""
    monkeypatch.chdir(tmp_path)
    for name, value in (variables(rank=0) | {"RANK": "0", "WORLD_SIZE": "4"}).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_requeued_job_goes_on_with_its_own_run(step: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert after_restart({}) == {}
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "last_model.pth").touch()
    restart.remember(folder)
    step.setenv("SLURM_RESTART_COUNT", "1")
    assert after_restart({}) == {"resume": folder / "last_model.pth"}
    step.setenv("SLURM_STEP_ID", "1")  # the same job's next training
    assert after_restart({}) == {}


def test_the_last_rank_that_is_left_goes_on_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun --nnodes=1:2 starts one rank where there were two: WORLD_SIZE is 1 then."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "last_model.pth").touch()
    restart.remember(folder)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert after_restart({}) == {"resume": folder / "last_model.pth"}
    restart.forget()
    assert after_restart({}) == {} and not list((tmp_path / "logs").iterdir())


def test_a_rank_that_loses_another_one_says_so(step: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def lost() -> int:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error [10.9.0.2]:29859: Connection reset by peer")

    step.setattr("vgbench.parallel.leave", lambda status: None)
    assert ended(lost) == 2
    assert capsys.readouterr().err.startswith(
        "error: rank 0: another rank: it has ended, or its machine is out of reach"
    )
    step.setenv("WORLD_SIZE", "1")
    with pytest.raises(RuntimeError):
        ended(lost)


def test_two_tasks_of_srun_are_one_run(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "datasets" / "tiny")
    words = [sys.executable, str(REPOSITORY / "train.py"), *of(dataset), *TINY, "--train_batch_size=2"]
    ranks = [
        subprocess.Popen(
            words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | variables(rank, 2, "localhost") | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=250)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said
    (run,) = (tmp_path / "logs" / "default").iterdir()
    assert read_checkpoint(run / "best_model.pth") and (run / "results.json").is_file()
    assert not list((tmp_path / "logs").glob(".srun*"))
