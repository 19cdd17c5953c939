"""Training with places and with classes on image files: what batches are made of, learning, and exact resuming."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import SMALL, of
from recipes import CLASSES_OPTIONS, PLACES_OPTIONS, network_of, recipe_of
from tiny_city import PLACES

from vgbench.data.augment import AugmentOptions
from vgbench.errors import UserError
from vgbench.models.weights import read_checkpoint
from vgbench.runtime import Runtime
from vgbench.training import Checkpoints, EpochRecalls, MetricsLogger, Run, TrainOptions, train
from vgbench.training.modes.classes_options import ClassesOptions
from vgbench.training.modes.places import PlacesMode
from vgbench.training.modes.places_options import PlacesOptions
from vgbench.training.modes.table import build_mode

CLIQUES = dataclasses.replace(PLACES_OPTIONS, place_batches="cliques", min_img_per_place=4, clique_batches=3)


def test_derived_places_have_a_new_grid_for_every_pass(tiny_dataset: Path) -> None:
    mode = build_mode(recipe_of(tiny_dataset, "places"))
    assert isinstance(mode, PlacesMode) and len(mode.images) == 5 * PLACES
    network = network_of()

    def drawn(epoch: int, index: int) -> list[list[int]]:
        return [batch.labels.tolist() for batch in mode.round(network, epoch, index)]

    assert drawn(0, 0) == drawn(0, 0) != drawn(0, 1)
    origins = {tuple(mode._sites(0, index).starts.tolist()) for index in range(6)}
    assert len(origins) > 1


@pytest.mark.parametrize(
    ("loss", "asked", "miner"),
    [("NTXent", None, "MultiSimilarity"), ("NTXent", "BatchHard", "BatchHard"), ("RankedList", None, "none")],
)
def test_the_log_names_the_miner_that_is_used(tiny_dataset: Path, loss: str, asked: str | None, miner: str) -> None:
    mode = build_mode(
        recipe_of(tiny_dataset, "places", places=dataclasses.replace(PLACES_OPTIONS, loss=loss, miner=asked))
    )
    assert f"{loss} loss, miner {miner}," in mode.summary()


def test_places_that_are_all_too_near_to_share_a_batch_are_refused(tiny_dataset: Path) -> None:
    mode = build_mode(recipe_of(tiny_dataset, "places", places=dataclasses.replace(PLACES_OPTIONS, place_gap=1e5)))
    words = r"--place_gap 100000: no two of the \d+ places .*--place_cell 20, --places_per_batch 4.*lower --place_gap"
    with pytest.raises(UserError, match=words) as caught:
        mode.round(network_of(), 0, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["places", "classes"])
def test_it_learns_to_tell_places_apart(tiny_dataset: Path, mode: str) -> None:
    always_something_left = dataclasses.replace(PLACES_OPTIONS, loss="NTXent", miner="none")
    recipe = recipe_of(tiny_dataset, mode, augmentation=AugmentOptions(), places=always_something_left)
    way, network = build_mode(recipe), network_of()
    losses = _train(way, network, tiny_dataset.parent / "learning", dataclasses.replace(recipe.training, epochs_num=8))
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:3])


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("places", {}),
        ("places", {"places": dataclasses.replace(PLACES_OPTIONS, loss="ProxyAnchor", miner="none")}),
        ("places", {"places": CLIQUES}),
        ("classes", {}),
        ("classes", {"classes": dataclasses.replace(CLASSES_OPTIONS, margin_loss="arcface")}),
    ],
)
def test_resuming_is_bit_exact(tiny_dataset: Path, tmp_path: Path, mode: str, changes: dict[str, Any]) -> None:
    recipe = recipe_of(tiny_dataset, mode, **changes)
    whole, stopped, again = network_of(), network_of(), network_of(7)
    _train(build_mode(recipe), whole, tmp_path / "whole", recipe.training)
    _train(build_mode(recipe), stopped, tmp_path / "cut", dataclasses.replace(recipe.training, epochs_num=1))
    _train(build_mode(recipe), again, tmp_path / "cut", recipe.training, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    one, other = (read_checkpoint(tmp_path / name / "last_model.pth")["mode_state"] for name in ("whole", "cut"))
    tensors = [value for value in _leaves(one) if isinstance(value, torch.Tensor)]
    assert repr(one) == repr(other)  # names, steps, rates
    for mine, theirs in zip(
        tensors, [value for value in _leaves(other) if isinstance(value, torch.Tensor)], strict=True
    ):
        assert torch.equal(mine, theirs)
    assert tensors or (mode == "places" and changes in ({}, {"places": CLIQUES}))


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    if isinstance(tree, list | tuple):
        return [leaf for value in tree for leaf in _leaves(value)]
    return [tree]


def _train(mode: Any, network: Any, folder: Path, options: TrainOptions, resume: bool = False) -> list[float]:
    folder.mkdir(exist_ok=True)
    losses: list[float] = []
    plain = mode.loss

    def watched(*arguments: Any) -> Any:
        loss = plain(*arguments)
        losses.append(float(loss.detach()))
        return loss

    mode.loss = watched
    checkpoints = Checkpoints(folder, network.config, {})
    with MetricsLogger(folder, tensorboard=False) as watch:
        train(
            network, mode, lambda _, epoch: EpochRecalls({1: 1.0 + epoch, 5: 1.0 + epoch}), options, Runtime(),
            Run(checkpoints, watch, 0, checkpoints.last if resume else None),
        )  # fmt: skip
    return losses


@pytest.mark.parametrize(
    ("mode", "changes", "message"),
    [
        ("places", {"places": PlacesOptions(img_per_place=9, min_img_per_place=9)}, "0 places with 9 images"),
        ("places", {"places": dataclasses.replace(PLACES_OPTIONS, cities=("Rome",))}, "has no cities"),
        (
            "places",
            {"places": dataclasses.replace(PLACES_OPTIONS, loss="PNP", miner="MultiSimilarity")},
            "--miner MultiSimilarity: --loss PNP takes no miner",
        ),
        (
            "places",
            {"places": dataclasses.replace(PLACES_OPTIONS, loss="PNP", miner_args=("epsilon=1",))},
            "takes no --miner_args",
        ),
        (
            "places",
            {"training": TrainOptions(train_mode="places", lr_classifier=0.1)},
            "--lr_classifier 0.1: --loss MultiSimilarity learns nothing",
        ),
        ("classes", {"classes": ClassesOptions()}, "no group of two classes"),
        ("squares", {}, "'squares' is not known"),
    ],
)
def test_refusals(tiny_dataset: Path, mode: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_mode(recipe_of(tiny_dataset, mode, **changes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlacesOptions(img_per_place=1), "--img_per_place 1"),
        (lambda: PlacesOptions(min_img_per_place=2), "fewer than --img_per_place 4"),
        (lambda: PlacesOptions(place_heading=0), "--place_heading 0"),
        (lambda: PlacesOptions(loss_distance="far"), "--loss_distance far"),
        (lambda: ClassesOptions(N=0), "--N 0"),
        (lambda: ClassesOptions(M=-1), "--M -1"),
        (lambda: ClassesOptions(margin_loss="sphereface", m=0.5), "multiplies the angle"),
        (lambda: ClassesOptions(partition="squares"), "--partition squares"),
        (lambda: dataclasses.replace(CLASSES_OPTIONS, margin_loss="face"), "'face' is not known"),
    ],
)
def test_options_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("loss", ["MultiSimilarity", "RankedList"])
def test_a_dry_run_through_the_script(tiny_dataset: Path, tmp_path: Path, call: Any, loss: str) -> None:
    """One loss with the usual miner, and one that takes none."""
    network = ["--backbone=resnet18conv4", "--aggregation=gem", "--pretrain=none", f"--run_dir={tmp_path / 'run'}"]
    places = ["--train_mode=places", f"--loss={loss}", "--img_per_place=3", "--min_img_per_place=3"]
    status, _, err = call("train.py", "--dry_run", *of(tiny_dataset), *SMALL, *network, *places)
    assert status == 0, err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [1, 1]
