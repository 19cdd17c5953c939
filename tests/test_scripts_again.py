"""Runs that go on, or that another run stands beside: what a second call keeps, changes and says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from calls import TRAINING, complaint, of

from vgbench.errors import UserError
from vgbench.models.backbones import dinov2


def resumed(call: Any, dataset: Path, checkpoint: Path, *extra: str) -> tuple[int, str, str]:
    return call("train.py", *of(dataset), f"--resume={checkpoint}", *extra)


def test_evaluating_the_last_checkpoint_leaves_the_training_run_alone(
    call: Any, trained: Path, pristine_dataset: Path
) -> None:
    files = ("config.yaml", "results.json", "report.html", "predictions.h5")
    before = {name: (trained / name).read_bytes() for name in files}
    status, _, err = call("eval.py", f"--resume={trained / 'last_model.pth'}", *of(pristine_dataset), "--num_workers=0")
    assert status == 0, err
    assert {name: (trained / name).read_bytes() for name in files} == before


def test_a_resumed_run_takes_the_new_rate(call: Any, trained: Path, pristine_dataset: Path) -> None:
    weights = torch.load(trained / "best_model.pth", weights_only=True)["model_state_dict"]
    status, out, err = resumed(
        call, pristine_dataset, trained / "last_model.pth", "--epochs_num=3", "--lr=0", "--weight_decay=0.25"
    )
    assert status == 0, err
    assert "--lr is 0.0, the interrupted run had 1e-05" in out
    last = torch.load(trained / "last_model.pth", weights_only=True)
    assert last["progress"]["epoch"] == 3
    groups = last["optimizer_state_dict"]["param_groups"]
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(0.0, 0.25)}
    assert weights.keys() == last["model_state_dict"].keys()


def test_another_optimiser_cannot_go_on(call: Any, trained: Path, pristine_dataset: Path) -> None:
    said = complaint(resumed(call, pristine_dataset, trained / "last_model.pth", "--epochs_num=3", "--optim=sgd"))
    assert "--optim" in said


def test_a_resumed_run_fetches_no_weights(
    call: Any, trained: Path, pristine_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vgbench.models.backbones.pretrained.fetch", lambda *a, **k: pytest.fail("fetched"))
    status, _, err = resumed(
        call, pristine_dataset, trained / "last_model.pth", "--epochs_num=3", "--pretrain=imagenet"
    )
    assert status == 0, err
    config = torch.load(trained / "last_model.pth", weights_only=True)["network_config"]
    assert config["pretrain"] == "imagenet"


def test_a_last_checkpoint_without_its_best_one_finds_a_new_best(
    call: Any, trained: Path, pristine_dataset: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(trained / "last_model.pth", alone)
    run = tmp_path / "goes_on"
    status, out, err = resumed(
        call, pristine_dataset, alone / "last_model.pth", f"--run_dir={run}", "--epochs_num=3", "--lr=0"
    )
    assert status == 0, err
    assert "without its best_model.pth" in out
    assert (run / "best_model.pth").is_file()
    assert (run / "results.json").is_file()


def test_resuming_the_best_checkpoint_does_not_count_its_epoch_twice(
    call: Any, trained: Path, pristine_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "from_best"
    status, _, err = resumed(
        call, pristine_dataset, trained / "best_model.pth", f"--run_dir={run}", "--patience=1", "--epochs_num=4"
    )
    assert status == 0, err
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs = [row["epoch"] for row in rows if "recalls" in row]
    assert len(set(epochs)) == len(epochs) >= 2


def test_a_runs_own_config_starts_another_run(call: Any, trained: Path, pristine_dataset: Path, tmp_path: Path) -> None:
    assert not {"run_dir", "resume"} & yaml.safe_load((trained / "config.yaml").read_text()).keys()
    run = tmp_path / "once_more"
    status, _, err = call(
        "train.py", f"--config={trained / 'config.yaml'}", f"--run_dir={run}", "--epochs_num=1", *of(pristine_dataset)
    )
    assert status == 0, err
    assert (run / "best_model.pth").is_file()


def test_two_sizes_are_both_kept(call: Any, trained: Path, pristine_dataset: Path, tmp_path: Path) -> None:
    def images_per_second(size: int) -> float:
        run = tmp_path / f"at_{size}"
        status, _, err = call(
            "eval.py", f"--resume={trained / 'best_model.pth'}", *of(pristine_dataset), "--num_workers=0",
            "--resize", str(size), str(size), f"--run_dir={run}", "--infer_batch_size=8",
        )  # fmt: skip
        assert status == 0, err
        return float(json.loads((run / "results.json").read_text())["images_per_second"])

    assert images_per_second(96) > 0
    assert images_per_second(64) == 0  # training's own last test described these
    assert images_per_second(96) == 0


def test_no_git_is_no_reason_to_lose_a_run(
    call: Any, trained: Path, pristine_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = tmp_path / "no_git"
    status, _, err = call(
        "eval.py",
        f"--resume={trained / 'best_model.pth'}",
        *of(pristine_dataset),
        "--num_workers=0",
        f"--run_dir={run}",
    )
    assert status == 0, err
    assert (run / "results.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--test_method=seven_crops"], "seven_crops"),
        (["--threshold", "nan"], "--threshold"),
        (["--device=cpu", "--amp=fp16"], "--amp"),
        (["--criterion=:x"], "':x'"),
    ],
)
def test_what_cannot_work_is_refused_before_a_run_starts(
    arguments: list[str], word: str, call: Any, pristine_dataset: Path, tmp_path: Path
) -> None:
    said = complaint(call("train.py", *of(pristine_dataset), *TRAINING, *arguments))
    assert word in said
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("content", [{1: torch.zeros(2)}, {"network_config": 3, "options": []}])
def test_odd_checkpoints(content: dict[Any, Any], call: Any, pristine_dataset: Path, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    assert "odd.pth" in complaint(call("eval.py", "--resume=odd.pth", *of(pristine_dataset)))


def test_a_bad_train_split_does_not_become_other_clusters(call: Any, tiny_dataset: Path) -> None:
    image = next((tiny_dataset / "images/train/database").rglob("*.jpg"))
    image.rename(image.with_name("no_coordinates.jpg"))
    network = ["--backbone=efficientnet_lite0_s16", "--aggregation=netvlad", "--netvlad_clusters=4"]
    said = complaint(call("eval.py", *of(tiny_dataset), "--resize", "64", "64", "--num_workers=0", *network))
    assert "no_coordinates.jpg" in said


def test_a_released_network_by_name_at_its_own_size(
    call: Any, pristine_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgbench.models import build_network

    source = build_network("resnet18conv5", "cosplace", "none", out_dim=32)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(source.state_dict(), tmp_path / "hub" / "checkpoints" / "ResNet18_32_cosplace.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    run = tmp_path / "released"
    status, out, err = call(
        "eval.py", "--method=cosplace-resnet18-32", *of(pristine_dataset), "--num_workers=0", f"--run_dir={run}",
        "--report_queries=2", "--heat_maps=1",
    )  # fmt: skip
    assert status == 0, err
    assert "cosplace-resnet18-32, 11.1" in out and "480x640" in out
    results = json.loads((run / "results.json").read_text())
    assert results["options"]["resize"] == [480, 640]
    said = complaint(call("eval.py", "--method=cosplace", "--backbone=vgg16", *of(pristine_dataset)))
    assert "--backbone" in said
    assert "Did you mean mixvpr?" in complaint(call("eval.py", "--method=mixvrp", *of(pristine_dataset)))


@pytest.mark.parametrize(
    "aggregation",
    ["mac", "spoc", "rmac", "rrm", "crn", "convap", "convgem", "cosplace", "mixvpr", "boq", "cls", "salad"],
)
def test_every_aggregation_is_tested_by_the_script(
    aggregation: str, call: Any, pristine_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vgbench.models.backbones.dinov2.SIZES", {"vits": dinov2.Size(64, 4, 2)})
    trunk = "dinov2_vits14" if aggregation in ("cls", "salad") else "resnet18conv4"
    size = ["--resize", "126", "126"] if trunk.startswith("dino") else ["--resize", "64", "96"]
    clusters = ["--netvlad_clusters=4"] if aggregation in ("netvlad", "crn") else []
    run = tmp_path / "run"
    status, out, err = call(
        "eval.py", *of(pristine_dataset), *size, "--num_workers=0", f"--backbone={trunk}", "--pretrain=none",
        f"--aggregation={aggregation}", *clusters, f"--run_dir={run}", "--report_queries=2", "--heat_maps=1",
    )  # fmt: skip
    assert status == 0, err
    assert f"{trunk} + {aggregation}" in out
    assert json.loads((run / "results.json").read_text())["queries"] == 16


def test_a_pca_of_other_images_through_the_script(call: Any, trained: Path, pristine_dataset: Path) -> None:
    folder = f"{pristine_dataset.name}/images/val/database"
    status, _, err = call(
        "eval.py", f"--resume={trained / 'best_model.pth'}", *of(pristine_dataset), "--num_workers=0", "--pca_dim=3",
        f"--pca_dataset_folder={folder}", f"--run_dir={trained / 'pca'}",
    )  # fmt: skip
    assert status == 0, err
    assert json.loads((trained / "pca" / "results.json").read_text())["descriptors_dim"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rerank", "local", "--local_features=nosuch"], "nosuch"),
        (["--rerank", "local", "--local_features=sift", "--local_matcher=lighterglue"], "lighterglue"),
        (["--rerank", "geowarp"], "this network has no GeoWarp"),
        (["--pca_file=/dev/null"], "/dev/null"),
        (["--test_method=fractions:Fraction"], "fractions:Fraction"),
        (["--pairs_out=/dev/null/pairs.txt"], "cannot be written"),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_extracted(
    call: Any, trained: Path, pristine_dataset: Path, arguments: list[str], message: str
) -> None:
    shutil.rmtree(trained / "descriptors", ignore_errors=True)
    said = complaint(
        call("eval.py", f"--resume={trained / 'best_model.pth'}", *of(pristine_dataset), "--num_workers=0", *arguments)
    )
    assert message in said and not list(trained.glob("descriptors/*.h5"))


def test_results_are_there_although_an_export_fails(
    call: Any, trained: Path, pristine_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **more: Any) -> int:
        raise UserError("pairs.txt: the disk is full. Expected space")

    monkeypatch.setattr("vgbench.report.outputs.write_pairs", fail)
    run = trained / "full"
    said = complaint(
        call(
            "eval.py",
            f"--resume={trained / 'best_model.pth'}",
            *of(pristine_dataset),
            "--num_workers=0",
            f"--run_dir={run}",
            f"--pairs_out={run / 'pairs.txt'}",
        )
    )
    assert "the disk is full" in said
    assert json.loads((run / "results.json").read_text())["queries"] == 16 and (run / "report.html").is_file()
