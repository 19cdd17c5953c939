"""One place, one class, one query, one image a batch, a rank with nothing: every mode, miner and loss of training.

The cases come from the tables themselves: a part that is added to one is tested here too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import CLASSES_OPTIONS, PLACES_OPTIONS, network_of, recipe_with
from tiny_city import write_image

from vgbench.data import DataOptions
from vgbench.errors import UserError
from vgbench.randomness import torch_stream
from vgbench.runtime import Runtime
from vgbench.training import TrainOptions
from vgbench.training.losses.metric import (
    loss_names,
    miner_names,
)
from vgbench.training.modes.distill_options import DistillOptions
from vgbench.training.modes.table import build_mode
from vgbench.training.optimisation.step import Stepper, set_training
from vgbench.training.tables import LOSSES, MARGIN_LOSSES, MINERS, TRAINING_MODES

# Why a way to train may have to refuse: nothing else is taken for a success.
IMPOSSIBLE = (
    "no sampled query has a negative|Expected at least two|no group of two classes or more|"
    "one image. Expected two or more, which the teacher compares"
)


def modes() -> Iterator[Any]:
    """(mode, options of training, of the mode)"""
    for name in TRAINING_MODES:
        yield pytest.param(name, {}, {}, id=f"mode {name}")
    for name in MINERS:
        yield pytest.param("triplets", {"mining": name}, {}, id=f"miner {name}")
    for name in LOSSES:
        yield pytest.param("triplets", {"criterion": name}, {}, id=f"loss {name}")
    for name in MARGIN_LOSSES:
        yield pytest.param("classes", {}, {"margin_loss": name}, id=f"margin loss {name}")
    for name in loss_names():
        yield pytest.param("places", {}, {"loss": name.removesuffix("Loss")}, id=f"metric loss {name}")
    for name in miner_names():
        yield pytest.param("places", {}, {"miner": name.removesuffix("Miner")}, id=f"metric miner {name}")


@pytest.fixture(scope="module", params=[(1, 1), (2, 1), (2, 2)], ids=lambda size: f"{size[0]} places of {size[1]}")
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many places far apart, so many images of each; one query."""
    places, views = request.param
    root = tmp_path_factory.mktemp("of_one") / "tiny"
    for place in range(places):
        for view in range(views):
            write_image(root / "images/train/database", 10 * place, view, 1.0 * view)
    write_image(root / "images/train/queries", 0, 9, 2.0, "night_sideways")
    return root


def _teacher(root: Path) -> Path:
    """Return the checkpoint of a network to learn from."""
    path = root / "teacher.pth"
    if not path.exists():
        network = network_of(7)
        torch.save({"network_config": network.config, "model_state_dict": network.state_dict()}, path)
    return path


def one_step(root: Path, name: str, training: dict[str, Any], own: dict[str, Any], side: int) -> float:
    """Take a step of a way to train, with batches as small as they can be; returns the loss."""
    small = {
        "training": TrainOptions(
            train_mode=name, epochs_num=1, queries_per_epoch=1, cache_refresh_rate=1, train_batch_size=1,
            neg_samples_num=1, negs_num_per_query=1, **training,
        ),
        "places": dataclasses.replace(
            PLACES_OPTIONS, img_per_place=2, min_img_per_place=2, places_per_batch=2,
            **(own if name == "places" else {}),
        ),
        "classes": dataclasses.replace(
            CLASSES_OPTIONS, min_images_per_class=1, images_per_batch=1, iterations_per_epoch=1,
            **(own if name == "classes" else {}),
        ),
        "distill": DistillOptions(distill_from=_teacher(root), distill_batch_size=2),
    }  # fmt: skip
    data = DataOptions(datasets_folder=root.parent, dataset_name=root.name, resize=(side, side), num_workers=0)
    network = network_of()
    mode = build_mode(recipe_with(data, network=network, **small))
    batches = mode.round(network, 0, 0)
    set_training(network, freeze_bn=False)
    stepper = Stepper(network, Runtime())
    losses = [float(stepper.backward(mode, batch, torch_stream(0, "step"))) for batch in batches]
    stepper.update([torch.optim.SGD(network.parameters(), lr=1e-3), *mode.optimizers(0)])
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert losses
    return max(losses)


@pytest.mark.parametrize(("name", "training", "own"), list(modes()))
def test_every_part_trains_on_one(root: Path, name: str, training: dict[str, Any], own: dict[str, Any]) -> None:
    try:
        assert abs(one_step(root, name, training, own, 32)) < float("inf")
    except UserError as error:
        assert "\n" not in str(error) and "Expected" in str(error)
        assert re.search(IMPOSSIBLE, str(error)), error
        if len(list(root.rglob("*.jpg"))) == 5:  # two places of two, and the query: all can be trained but this
            assert training == {"mining": "full"}, error


@pytest.mark.parametrize("name", list(TRAINING_MODES))
def test_maps_of_one_cell_train_or_are_one_line(root: Path, name: str) -> None:
    try:
        assert abs(one_step(root, name, {}, {}, 16)) < float("inf")
    except UserError as error:
        assert "\n" not in str(error) and "Expected" in str(error)
