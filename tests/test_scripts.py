"""train.py and eval.py as a user runs them: what they leave behind, and what they say to bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from calls import SMALL, TRAINING, complaint, of
from tiny_city import write_image


def test_train_leaves_a_whole_run_behind(trained: Path) -> None:
    written = {path.name for path in trained.iterdir()}
    assert written >= {
        "info.log", "debug.log", "config.yaml", "last_model.pth", "best_model.pth", "metrics.jsonl", "results.json",
        "predictions.h5", "report.html", "descriptors", "tensorboard",
    }  # fmt: skip
    assert not [name for name in written if name.endswith(".partial")]
    info = (trained / "info.log").read_text()
    assert all(word in info for word in ("parameters", "GFLOPs", "descriptor dimensions", "R@1"))
    results = json.loads((trained / "results.json").read_text())
    assert results["queries"] == 16 and results["database"] == 24
    assert set(results["recalls"]) == {"25"}
    assert yaml.safe_load((trained / "config.yaml").read_text())["netvlad_clusters"] == 4


def test_dry_run_takes_one_step_of_everything(call: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    for place in range(100, 150):  # more than a dry run looks at
        write_image(tiny_dataset / "images" / "val" / "database", place, 0, 0.0)
    run = tmp_path / "run"
    arguments = [*of(tiny_dataset), *SMALL, "--pretrain=none", "--aggregation=gem", f"--run_dir={run}"]
    status, out, err = call("train.py", "--dry_run", "--schedule=cosine", "--warmup_epochs=2", *arguments)
    assert status == 0, err
    assert "dry run: every step works" in out
    written = {path.name for path in run.iterdir()}
    assert written >= {"config.yaml", "last_model.pth", "best_model.pth", "metrics.jsonl", "results.json"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [1, 1] and set(rows[1]["recalls"]) >= {"1", "5"}
    # The whole run's configuration is in the folder, with its own numbers.
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["cache_refresh_rate"], config["epochs_num"], config["warmup_epochs"]) == (1000, 1000, 2.0)


def test_a_dry_run_leaves_an_interrupted_run_alone(call: Any, trained: Path) -> None:
    before = (trained / "last_model.pth").read_bytes()
    said = complaint(call("train.py", "--dry_run", f"--resume={trained / 'last_model.pth'}"))
    assert "--dry_run" in said and "last_model.pth" in said
    assert (trained / "last_model.pth").read_bytes() == before


def test_dry_run_finds_a_wrong_setting(call: Any, tiny_dataset: Path) -> None:
    arguments = [*of(tiny_dataset), *SMALL, "--pretrain=none", "--aggregation=gem"]
    assert "--lr_crn_net" in complaint(call("train.py", "--dry_run", "--lr_crn_net=1", *arguments))


def test_eval_needs_no_architecture_flags_and_agrees_with_training(
    call: Any, trained: Path, pristine_dataset: Path
) -> None:
    run = trained.parent / "again"
    checkpoint = trained / "best_model.pth"
    status, out, err = call(
        "eval.py", f"--resume={checkpoint}", *of(pristine_dataset), "--num_workers=0", f"--run_dir={run}",
        "--threshold", "5", "25", "100", "--infer_batch_size=8",
    )  # fmt: skip
    assert status == 0, err
    before = json.loads((trained / "results.json").read_text())
    after = json.loads((run / "results.json").read_text())
    assert after["recalls"]["25"] == before["recalls"]["25"]
    assert after["network"] == before["network"]
    assert list(after["recalls"]) == ["25", "5", "100"]  # the one that counts comes first
    assert "100 m" in out
    # The descriptors that training's last test stored are found again.
    assert after["images_per_second"] == 0


def test_eval_refuses_another_architecture(call: Any, trained: Path, tiny_dataset: Path) -> None:
    checkpoint = trained / "best_model.pth"
    said = complaint(call("eval.py", f"--resume={checkpoint}", "--aggregation=gem", *of(tiny_dataset), *SMALL))
    assert "netvlad" in said and "--aggregation" in said


def test_train_goes_on_in_the_same_folder(call: Any, trained: Path) -> None:
    rows_before = (trained / "metrics.jsonl").read_text().splitlines()
    status, _, err = call("train.py", f"--resume={trained / 'last_model.pth'}", "--epochs_num=3")
    assert status == 0, err
    rows = [json.loads(row) for row in (trained / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) > len(rows_before)
    assert rows[: len(rows_before)] == [json.loads(row) for row in rows_before]


def test_early_stopping_watches_r5_whatever_is_reported(call: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    arguments = [*of(tiny_dataset), *TRAINING, "--epochs_num=1", "--recall_values", "1", "10"]
    assert call("train.py", *arguments, f"--run_dir={tmp_path / 'run'}")[0] == 0
    assert set(json.loads((tmp_path / "run" / "results.json").read_text())["recalls"]["25"]) == {"1", "10"}


def test_default_run_folder_is_dated(call: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    arguments = [*of(tiny_dataset), *SMALL, "--backbone=efficientnet_lite0", "--aggregation=gem", "--save_dir=here"]
    assert call("eval.py", *arguments)[0] == 0
    assert call("eval.py", *arguments)[0] == 0
    assert len(list((tmp_path / "logs" / "here").iterdir())) == 2


# -- bad input: one line, status 2, nothing half-written ------------------------------------------------------------


def spoil_no_split(root: Path) -> None:
    for path in sorted((root / "images" / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "images" / "val").rmdir()


def spoil_no_queries_folder(root: Path) -> None:
    (root / "images" / "test" / "queries").rename(root / "images" / "test" / "elsewhere")


def spoil_empty_queries(root: Path) -> None:
    for path in (root / "images" / "test" / "queries").iterdir():
        path.unlink()


def spoil_name(root: Path) -> None:
    next((root / "images" / "train" / "database").iterdir()).rename(root / "images/train/database/holiday.jpg")


def spoil_coordinates(root: Path) -> None:
    source = next((root / "images" / "train" / "database").iterdir())
    source.rename(source.with_name("@north@south@33@S@@@@@@@@@@@.jpg"))


def spoil_truncated(root: Path) -> None:
    path = next((root / "images" / "test" / "database").iterdir())
    path.write_bytes(path.read_bytes()[:400])


def spoil_not_an_image(root: Path) -> None:
    next((root / "images" / "train" / "queries").iterdir()).write_text("<html>404</html>")


def spoil_far_queries(root: Path) -> None:
    folder = root / "images" / "train" / "queries"
    for path in folder.iterdir():
        path.unlink()
    write_image(folder, 5000, 0, 0.0)


def spoil_nothing(root: Path) -> None:
    pass


BAD_TRAINING = {
    "unknown option": (spoil_nothing, ["--bacbone=gem"], "--backbone"),
    "bad choice": (spoil_nothing, ["--optim=lion"], "lion"),
    "bad number": (spoil_nothing, ["--lr=fast"], "--lr"),
    "negative rate": (spoil_nothing, ["--lr=-1"], "--lr"),
    "missing dataset": (spoil_nothing, ["--dataset_name=atlantis"], "atlantis"),
    "missing split": (spoil_no_split, [], "val"),
    "missing queries folder": (spoil_no_queries_folder, [], "queries"),
    "missing query set": (spoil_nothing, ["--queries_folder=queries_fog"], "queries_fog"),
    "empty query set": (spoil_empty_queries, [], "queries"),
    "name without fields": (spoil_name, [], "holiday.jpg"),
    "name without numbers": (spoil_coordinates, [], "@north@south"),
    "truncated image": (spoil_truncated, [], "1 of 24 images"),
    "not an image": (spoil_not_an_image, [], "1 of 16 images"),
    "no positives": (spoil_far_queries, [], "--train_positives_dist_threshold"),
    "unknown backbone": (spoil_nothing, ["--backbone=resnet18conv6"], "resnet18conv6"),
    "unknown aggregation": (spoil_nothing, ["--aggregation=netvald"], "netvlad"),
    "own class that is absent": (spoil_nothing, ["--aggregation=nowhere.heads:Mine"], "nowhere"),
    "unknown criterion": (spoil_nothing, ["--criterion=triplets"], "triplet"),
    "unknown mining": (spoil_nothing, ["--mining=hardest"], "partial"),
    "mining without its notes": (spoil_nothing, ["--mining=msls_weighted"], "night"),
    "zero size": (spoil_nothing, ["--resize", "0", "64"], "--resize"),
    "recall at 0": (spoil_nothing, ["--recall_values", "0", "5"], "--recall_values"),
    "checkpoint that is absent": (spoil_nothing, ["--resume=nowhere.pth"], "nowhere.pth"),
    "config that is absent": (spoil_nothing, ["--config=nowhere.yaml"], "nowhere.yaml"),
    "unwritable folder": (spoil_nothing, ["--run_dir=/dev/null/run"], "/dev/null/run"),
    "bad worker count": (spoil_nothing, ["--num_workers=-3"], "--num_workers"),
}


@pytest.mark.parametrize("kind", BAD_TRAINING)
def test_bad_input_to_train(kind: str, call: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    spoil, extra, word = BAD_TRAINING[kind]
    spoil(tiny_dataset)
    said = complaint(call("train.py", *of(tiny_dataset), *TRAINING, *extra))
    assert word in said
    assert not (tmp_path / "logs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_where_there_is_none(call: Any, tiny_dataset: Path) -> None:
    assert "--device" in complaint(call("train.py", *of(tiny_dataset), *TRAINING, "--device=cuda"))


def test_bad_images_can_be_skipped(call: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    spoil_truncated(tiny_dataset)
    status, out, err = call(
        "eval.py", *of(tiny_dataset), *SMALL, "--backbone=efficientnet_lite0", "--aggregation=gem",
        "--on_bad_image=skip", f"--run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert status == 0, err
    assert "1 of 24 images cannot be read" in out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["database"] == 23


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken zip"])
def test_eval_of_a_file_that_is_no_checkpoint(content: bytes, call: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.pth").write_bytes(content)
    assert "odd.pth" in complaint(call("eval.py", "--resume=odd.pth", *of(tiny_dataset), *SMALL))


def test_eval_of_a_bare_state_dict_of_another_network(call: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    torch.save({"module.backbone.0.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    said = complaint(call("eval.py", "--resume=other.pth", *of(tiny_dataset), *SMALL))
    assert "other.pth" in said and "--backbone" in said
