"""Networks of sequences through the commands: trained, tested from the checkpoint alone, refused beside what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from walks import write_walk

import vgbench
from vgbench.data.sequences import SequenceTable
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.weights import read_checkpoint
from vgbench.report.leaderboard.entries import read_entries
from vgbench.training.checkpoint import save_checkpoint

SMALL: dict[str, Any] = {
    "backbone": "resnet18conv4", "pretrain": "none", "resize": (32, 32), "num_workers": 0, "device": "cpu",
    "amp": "off", "heat_maps": 0,
}  # fmt: skip
TRAINED: dict[str, Any] = {
    "train_batch_size": 2, "queries_per_epoch": 4, "cache_refresh_rate": 4, "neg_samples_num": 6,
    "negs_num_per_query": 2, "epochs_num": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("datasets")
    write_walk(folder / "street")
    return {**SMALL, "datasets_folder": folder, "dataset_name": "street"}


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_trained_and_tested_from_the_checkpoint_alone(street: dict[str, Any], tmp_path: Path) -> None:
    given = {**street, **TRAINED, "aggregation": "gem", "seq_aggregation": "seqgem", "seq_length": 3}
    trained = vgbench.train(vgbench.train_settings(**given, seq_positives="centre", run_dir=tmp_path / "run"))
    facts = results(tmp_path / "run")
    assert (facts["queries"], facts["database"], facts["protocol"]) == (8, 14, "sequences of 3, central frame")
    assert facts["sequences"]["length"] == 3 and facts["sequences"]["query_frames"] == 10
    page = (tmp_path / "run" / "report.html").read_text()
    assert "sequences of 3 frames" in page and "gem + seqgem of 3" in page
    [entry] = read_entries(tmp_path / "run")
    assert "seqgem of 3" in entry.network
    content = read_checkpoint(trained.best)
    assert content["network_config"]["seq_aggregation"] == "seqgem" and "sequence.p" in content["model_state_dict"]
    where = {name: street[name] for name in ("datasets_folder", "num_workers", "device", "amp", "heat_maps")}
    tested = vgbench.evaluate(vgbench.eval_settings(resume=trained.best, run_dir=tmp_path / "again", **where))
    assert results(tmp_path / "again")["recalls"] == facts["recalls"]
    assert isinstance(tested.split.queries, SequenceTable) and tested.network.seq_length == 3
    longer = vgbench.evaluate(
        vgbench.eval_settings(resume=trained.best, seq_length=5, run_dir=tmp_path / "longer", **where)
    )
    assert longer.facts["queries"] == 6 and longer.facts["protocol"] == "sequences of 5, central frame"


def test_a_network_of_images_describes_frames(street: dict[str, Any], tmp_path: Path) -> None:
    network, images = build_network("resnet18conv4", "gem", "none"), tmp_path / "images.pth"
    content = {"network_config": network.config, "model_state_dict": network.state_dict()}
    save_checkpoint(images, {**content, "options": {"resize": [32, 32], "dataset_name": "street"}})
    where = {name: street[name] for name in ("datasets_folder", "num_workers", "device", "amp", "heat_maps")}
    found = vgbench.evaluate(
        vgbench.eval_settings(
            resume=images, seq_aggregation="concat", seq_length=2, pca_dim=4, run_dir=tmp_path / "concat", **where
        )
    )
    assert found.facts["queries"] == 9 and found.facts["descriptors_dim"] == 4
    more = {**street, **TRAINED, "start_from": images, "seq_aggregation": "seqnet", "seqnet_width": 2}
    more = {name: value for name, value in more.items() if name not in ("backbone", "pretrain")}
    started = vgbench.train(vgbench.train_settings(**more, seq_length=2, lr=1e-6, run_dir=tmp_path / "started"))
    before, after = (read_checkpoint(path)["model_state_dict"] for path in (images, started.best))
    assert torch.allclose(before["backbone.0.weight"], after["backbone.0.weight"], atol=1e-3)
    assert after["sequence.conv.weight"].shape == (256, 256, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sequence": "window"}, "--sequence window: .*Expected one of the two"),
        ({"no_labels": True}, "--no_labels: .*Expected"),
        ({"test_method": "five_crops"}, "--test_method, --scales: .*Expected"),
        ({"seq_length": 40}, "--seq_length 40: .*has no sequence that long"),
        ({"seq_order": "timestamp"}, "--seq_order timestamp: .*Expected"),
    ],
)
def test_refused_in_a_test(street: dict[str, Any], tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        vgbench.evaluate(
            vgbench.eval_settings(
                **street, aggregation="gem", seq_aggregation="mean", run_dir=tmp_path / "run", **options
            )
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train_mode": "places"}, "--train_mode places: .*Expected --train_mode triplets"),
        ({"grl_folder": Path("photos")}, "--grl_folder: .*Expected"),
        ({"translated_folder": Path("night")}, "--translated_folder: .*Expected"),
        ({"train_dataset_name": ("street", "street")}, "--train_dataset_name: .*Expected one name"),
    ],
)
def test_refused_in_a_training(street: dict[str, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        vgbench.train_settings(**street, aggregation="gem", seq_aggregation="mean", **options)


def test_options_without_effect_are_refused(street: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"--seq_length.*Expected --sequence or --seq_aggregation"):
        vgbench.eval_settings(**street, seq_length=3)
    with pytest.raises(UserError, match=r"--seq_stride.*Expected --seq_aggregation"):
        vgbench.eval_settings(**street, sequence="window", seq_stride=3)
