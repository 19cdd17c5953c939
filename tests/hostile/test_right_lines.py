"""Lines that name what is wrong and what mends it, where they once named something else."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import SMALL, complaint, of
from recipes import PLACES_OPTIONS, recipe_of
from tiny_city import write_image

from vgbench.data.protocol import read_folder
from vgbench.errors import UserError
from vgbench.models import build_network, load_state_dict
from vgbench.models.from_options import network_from_options
from vgbench.models.options import NetworkOptions
from vgbench.models.weights import read_checkpoint
from vgbench.training import TrainOptions
from vgbench.training.modes.table import build_mode

PLAIN = ["--backbone=resnet18conv4", "--aggregation=gem", "--pretrain=none"]
# What is often saved under a checkpoint's name, and the words that name it.
FOREIGN: dict[str, tuple[bytes, str]] = {
    "page": (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
    "page with a mark": (b"\xef\xbb\xbf<!doctype html>", "is a web page"),
    "page with a comment": (b"<!-- saved from url=(0014)about:internet -->\n<html>", "is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "answer": (b'{"error":"Repository not found"}', "such as a server's answer"),
    "words": (b"Entry not found", "'Entry not found'"),
    "nothing": (b"", "is empty"),
    "object": (pickle.dumps({"x": Fraction(1, 2)}), "holds more than tensors"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_saved_as_a_checkpoint_is_named(tmp_path: Path, kind: str) -> None:
    content, words = FOREIGN[kind]
    path = tmp_path / "best_model.pth"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    said = str(caught.value)
    assert words in said and said.startswith(str(path)) and "checkpoint ()" not in said


class Doubles(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["script", "cut", "object"])
def test_no_advice_to_load_what_could_run_code(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "best_model.pth"
    if kind == "script":
        torch.jit.save(torch.jit.script(Doubles()), str(path))
    elif kind == "cut":
        torch.save({"weight": torch.zeros(99)}, path)
        path.write_bytes(path.read_bytes()[:300])
    else:
        torch.save({"weight": torch.zeros(9), "when": Fraction(1, 2)}, path)
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    said = str(caught.value)
    assert "weights_only" not in said and "\n" not in said and len(said) < 400
    assert ("TorchScript" in said) == (kind == "script")


@pytest.mark.parametrize(("miner", "said"), [(None, "miner MultiSimilarity,"), ("none", "miner none,")])
def test_the_summary_names_the_miner_that_is_used(pristine_dataset: Path, miner: str | None, said: str) -> None:
    recipe = recipe_of(pristine_dataset, "places", places=dataclasses.replace(PLACES_OPTIONS, miner=miner))
    assert said in build_mode(recipe).summary()


@pytest.mark.parametrize("samples", [2, 3, 1000])
def test_no_larger_sample_is_asked_for_where_all_were_drawn(tmp_path: Path, samples: int) -> None:
    root = tmp_path / "near"
    for view in range(3):
        write_image(root / "images/train/database", 0, view, 1.0 * view)
        write_image(root / "images/train/queries", 0, view + 5, 2.0)
    mode = build_mode(recipe_of(root, "triplets", training=TrainOptions(neg_samples_num=samples)))
    with pytest.raises(UserError, match="no sampled query has a negative") as caught:
        mode.round(build_network("resnet18conv4", "gem", pretrain="none"), 0, 0)
    assert ("raise --neg_samples_num" in str(caught.value)) == (samples < 3)
    assert "--val_positive_dist_threshold" in str(caught.value)


@pytest.mark.parametrize("samples", [8, 1000])
def test_nor_where_negatives_repeat(pristine_dataset: Path, samples: int, caplog: pytest.LogCaptureFixture) -> None:
    options = TrainOptions(neg_samples_num=samples, negs_num_per_query=30, queries_per_epoch=2, cache_refresh_rate=2)
    mode = build_mode(recipe_of(pristine_dataset, "triplets", training=options))
    with caplog.at_level(logging.INFO):
        mode.round(build_network("resnet18conv4", "gem", pretrain="none"), 0, 0)
    assert "have fewer than 30" in caplog.text
    assert ("a larger --neg_samples_num" in caplog.text) == (samples < len(read_folder(pristine_dataset / DATABASE)))


DATABASE = "images/train/database"


def test_without_netvlad_the_train_split_is_not_looked_at(call: Any, tiny_dataset: Path) -> None:
    next((tiny_dataset / DATABASE).glob("*.jpg")).write_bytes(b"no image")
    test = [*of(tiny_dataset), *SMALL]
    status, shown, errors = call("eval.py", *test, *PLAIN, "--run_dir=bad")
    assert status == 0, errors
    netvlad = ["--backbone=resnet18conv4", "--aggregation=netvlad", "--netvlad_clusters=2", "--pretrain=none"]
    assert "train/database" in complaint(call("eval.py", *test, *netvlad, "--run_dir=clusters"))
    shutil.rmtree(tiny_dataset / "images/train")
    status, shown, errors = call("eval.py", *test, *PLAIN, "--run_dir=none")
    assert status == 0 and "NetVLAD" not in shown + errors
    status, shown, errors = call("eval.py", *test, *netvlad, "--run_dir=from_test")
    assert status == 0 and "NetVLAD's clusters come from the test database" in shown + errors


@pytest.mark.parametrize(
    ("aggregation", "said"),
    [("cosplace", "--out_dim"), ("convap", "--out_channels"), ("gem", ""), ("netvlad", "")],
)
def test_a_second_projection_is_said(aggregation: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    options = NetworkOptions(backbone="resnet18conv4", aggregation=aggregation, pretrain="none", fc_output_dim=16)
    assert network_from_options(options).descriptors_dim == 16
    assert (f"For one alone use {said}" in caplog.text) == bool(said)
    assert ("second projection" in caplog.text) == bool(said)


@pytest.mark.parametrize(
    ("aggregation", "options", "said"),
    [
        ("gem", {}, "--backbone, --aggregation and --l2"),
        ("netvlad", {"netvlad_clusters": 2}, "--backbone, --aggregation and --netvlad_clusters"),
        ("cosplace", {"out_dim": 8}, "--backbone, --aggregation and --out_dim"),
        ("gem", {"fc_output_dim": 8}, "--backbone, --aggregation, --l2 and --fc_output_dim"),
    ],
)
def test_weights_of_another_network_name_the_options_that_it_has(
    aggregation: str, options: dict[str, Any], said: str
) -> None:
    network = build_network("resnet18conv4", aggregation, pretrain="none", **options)
    with pytest.raises(UserError, match="of another network") as caught:
        load_state_dict(network, {"weight": torch.zeros(2)})
    assert str(caught.value).endswith(f"Expected the weights of this very {said}")
