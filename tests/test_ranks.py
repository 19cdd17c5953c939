"""Two ranks (gloo, on the CPU) against one: the same losses and recalls, exact resuming, and the end of a rank."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import of, run_here
from forked_ranks import on_ranks
from ranks import started, torchrun
from tiny_city import write_dataset

from vgbench.models.weights import read_checkpoint

COMMON = [
    "--backbone=resnet18conv4", "--aggregation=gem", "--pretrain=none", "--resize", "48", "48", "--num_workers=0",
    "--device=cpu", "--amp=off", "--infer_batch_size=4", "--epochs_num=2", "--patience=9",
    # Adam's first steps are of one length whatever the gradient, and make rounding of near-zeros into differences.
    "--optim=sgd", "--lr=0.001",
]  # fmt: skip
PLACES = ["--train_mode=places", "--place_cell=20", "--img_per_place=2", "--min_img_per_place=2"]
CLASSES = [
    "--train_mode=classes", "--M=20", "--N=2", "--L=1", "--min_images_per_class=2", "--iterations_per_epoch=3",
    "--lr_classifier=0.001",
]  # fmt: skip
# What one rank is told, and what each of two is told.
MODES: dict[str, tuple[list[str], list[str], list[str]]] = {
    # An image that two triplets of a step share counts once on one rank and twice on two, in BatchNorm alone.
    "triplets": (
        ["--freeze_bn", "--queries_per_epoch=8", "--cache_refresh_rate=4", "--negs_num_per_query=3", "--margin=1"],
        ["--train_batch_size=4"], ["--train_batch_size=2"],
    ),
    "places": ([*PLACES, "--loss=NTXent", "--miner=none"], ["--places_per_batch=4"], ["--places_per_batch=2"]),
    "classes": (CLASSES, ["--images_per_batch=8"], ["--images_per_batch=4"]),
}  # fmt: skip
# A loss with an online miner, and one with weights of its own.
LOSSES = {
    "mined": (PLACES, ["--places_per_batch=4"], ["--places_per_batch=2"]),
    "own weights": (
        [*PLACES, "--loss=ArcFace", "--lr_classifier=0.001"], ["--places_per_batch=4"], ["--places_per_batch=2"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("datasets") / "tiny")


def train(ranks: int, dataset: Path, run: Path, *arguments: str) -> None:
    run.parent.mkdir(parents=True, exist_ok=True)
    done = torchrun(ranks, "train.py", *of(dataset), *COMMON, f"--run_dir={run}", *arguments, cwd=run.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def train_in_forks(ranks: int, dataset: Path, run: Path, *arguments: str) -> None:
    """As `train`, without starting Python and importing PyTorch for each rank."""
    words = [*of(dataset), *COMMON, f"--run_dir={run}", *arguments]

    def work(rank: int) -> None:
        assert run_here("train.py", *words) == 0

    statuses, said = on_ranks(ranks, work, run.parent)
    assert statuses == [0] * ranks, said


def losses_of(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def recalls_of(run: Path) -> Any:
    return json.loads((run / "results.json").read_text())["recalls"]


@pytest.mark.parametrize("mode", [*MODES, *LOSSES])
def test_two_ranks_are_one_with_twice_the_batch(
    mode: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common, alone, each = (MODES | LOSSES)[mode]
    assert run_here("train.py", *of(dataset), *COMMON, f"--run_dir={tmp_path / 'one'}", *common, *alone) == 0
    train_in_forks(2, dataset, tmp_path / "two", *common, *each)
    one, two = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert len(one) > 2 and one == pytest.approx(two, rel=1e-5, abs=1e-5)
    assert recalls_of(tmp_path / "one") == recalls_of(tmp_path / "two")
    assert (tmp_path / "two" / "report.html").is_file() and not list((tmp_path / "two").rglob("*.partial"))
    weights = [read_checkpoint(tmp_path / name / "last_model.pth")["model_state_dict"] for name in ("one", "two")]
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_killed_rank_is_started_again_and_the_run_ends_as_without(mode: str, dataset: Path, tmp_path: Path) -> None:
    common, _, each = MODES[mode]
    train(2, dataset, tmp_path / "whole", *common, *each)
    done = torchrun(
        2, "tests/killed_rank.py", *of(dataset), *COMMON, *common, *each,
        f"--run_dir={tmp_path / 'cut'}", cwd=tmp_path, restarts=1,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "killed").is_file() and "resumed" in (tmp_path / "cut" / "info.log").read_text()
    whole, cut = (read_checkpoint(tmp_path / name / "last_model.pth") for name in ("whole", "cut"))
    for key, value in whole["model_state_dict"].items():
        assert torch.equal(value, cut["model_state_dict"][key]), key
    assert recalls_of(tmp_path / "whole") == recalls_of(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_torchrun_that_is_told_to_end_ends_all_ranks_after_one_step(name: str, dataset: Path, tmp_path: Path) -> None:
    common, _, each = MODES["places"]
    words = [*of(dataset), *COMMON, *common, *each]
    train(2, dataset, tmp_path / "whole", *common, *each)
    process = started(2, "train.py", *words, f"--run_dir={tmp_path / 'cut'}", cwd=tmp_path)
    log, deadline = tmp_path / "cut" / "info.log", time.monotonic() + 120
    while not (log.is_file() and "epoch 0, round" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=120)
    word = {"SIGTERM": "terminated", "SIGHUP": "hung up"}[name]
    assert err.count(f"{word}; to go on: ") == 1 and "rank 1" not in err, err
    assert "SIGKILL" not in err  # which torchrun sends after 30 s
    train(2, dataset, tmp_path / "cut", f"--resume={tmp_path / 'cut'}")
    whole, cut = (read_checkpoint(tmp_path / name / "last_model.pth") for name in ("whole", "cut"))
    for key, value in whole["model_state_dict"].items():
        assert torch.equal(value, cut["model_state_dict"][key]), key
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "cut")
    assert recalls_of(tmp_path / "whole") == recalls_of(tmp_path / "cut")


def test_a_rank_that_cannot_go_on_ends_the_job_with_its_reason(dataset: Path, tmp_path: Path) -> None:
    done = torchrun(2, "train.py", *of(dataset), *COMMON, "--train_batch_size=0", cwd=tmp_path)
    # Whichever comes first; torchrun ends the other one.
    assert done.returncode != 0 and re.search("rank [01]: --train_batch_size 0: too small", done.stderr)


def test_eval_on_two_ranks(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*of(dataset), *COMMON[:10], "--infer_batch_size=5", "--rerank", "spatial"]
    assert run_here("eval.py", *arguments, f"--run_dir={tmp_path / '1'}") == 0
    done = torchrun(2, "eval.py", *arguments, f"--run_dir={tmp_path / '2'}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("1", "2"))
    assert one["recalls"] == two["recalls"] and one["rerank"][0]["after"] == two["rerank"][0]["after"]
