"""Several training sets at once: the sum of their losses, each drawn in its own way, and the same bits after a cut."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import gradients_of_one_and_two, interrupted, network_of, recipe_of, trained
from torch import Tensor

from vgbench.data import DataOptions, train_roots
from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.errors import UserError
from vgbench.training import TrainOptions
from vgbench.training.modes.classes import ClassesMode
from vgbench.training.modes.joint import JointMode
from vgbench.training.modes.places import PlacesMode
from vgbench.training.modes.table import build_mode
from vgbench.training.modes.triplets import TripletMode

KINDS = ("places", "classes", "triplets")


def joint(root: Path, kinds: tuple[str, ...] = KINDS, weights: tuple[float, ...] | None = None, **changes: Any) -> Any:
    """Several ways to train on the tiny dataset and its copies."""
    names = tuple(f"{root.name}{number}" if number else root.name for number in range(len(kinds)))
    for name in names[1:]:
        if not (root.parent / name).is_dir():
            shutil.copytree(root, root.parent / name)
    base = recipe_of(root, "places", augmentation=AugmentOptions(brightness=0.2))
    data = dataclasses.replace(base.data, train_dataset_name=names, train_weights=weights)
    training = TrainOptions(
        train_modes=kinds, epochs_num=2, lr=1e-3, queries_per_epoch=6, cache_refresh_rate=6, train_batch_size=2,
        neg_samples_num=10, negs_num_per_query=2, **changes,
    )  # fmt: skip
    return build_mode(dataclasses.replace(base, data=data, roots=train_roots(data), training=training)), training


def test_it_is_the_weighted_sum_of_each_sets_own_loss(tiny_dataset: Path) -> None:
    mode, _ = joint(tiny_dataset, weights=(1.0, 2.0, 0.5))
    assert isinstance(mode, JointMode)
    assert [type(one) for one in mode.modes] == [PlacesMode, ClassesMode, TripletMode]
    network = network_of().eval()
    batch = next(iter(mode.round(network, 0, 0)))

    def described(images: Tensor) -> Tensor:
        found: Tensor = network(images)
        return found

    total = mode.loss(described, batch, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    parts = [one.loss(described, part, generator) for one, part in zip(mode.modes, batch.parts, strict=True)]
    expected = parts[0] + 2 * parts[1] + 0.5 * parts[2]
    assert torch.allclose(total, expected)
    assert mode.numbers() == pytest.approx(
        {f"loss_{name}": float(part.detach()) for name, part in zip(mode.names, parts, strict=True)}, rel=1e-6
    )
    grads = torch.autograd.grad(total, list(network.backbone.parameters())[-1])
    assert grads[0].abs().sum() > 0


def test_a_shorter_set_goes_on_and_a_round_can_begin_in_its_midst(tiny_dataset: Path) -> None:
    mode, _ = joint(tiny_dataset, ("places", "classes"))
    network = network_of()
    batches = mode.round(network, 0, 0)
    lengths = [len(one) for one in batches.first]
    assert len(batches) == max(lengths) and len(set(lengths)) == 2
    everything = [[part.labels.tolist() for part in batch.parts] for batch in batches]
    for done in range(len(batches)):
        rest = [[part.labels.tolist() for part in b.parts] for b in mode.round(network, 0, 0).after(done)]
        assert rest == everything[done:]
    shorter = lengths.index(min(lengths))
    if shorter == 0:  # places are drawn anew, not gone through again
        assert everything[0][0] != everything[lengths[0]][0]


def test_a_cut_run_ends_with_the_same_bits_and_tells_each_loss(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode, options = joint(tiny_dataset)
    whole = network_of()
    trained(mode, whole, tmp_path / "whole", options)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    told = [row for row in rows if "loss_tiny" in row]
    assert told and all({"loss_tiny", "loss_tiny1", "loss_tiny2"} <= row.keys() for row in told)
    for row in told:
        assert row["loss"] == pytest.approx(sum(row[f"loss_{name}"] for name in ("tiny", "tiny1", "tiny2")), rel=1e-4)

    with interrupted(monkeypatch, JointMode, 7):
        trained(joint(tiny_dataset)[0], network_of(), tmp_path / "cut", options)
    resumed = network_of(seed=5)
    trained(joint(tiny_dataset)[0], resumed, tmp_path / "cut", options, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_ranks_have_the_gradients_of_one(tiny_dataset: Path, tmp_path: Path) -> None:
    def made(share: int) -> tuple[Any, Any]:
        mode, _ = joint(tiny_dataset, ("places", "classes"), (1.0, 0.5))
        places, classes = mode.modes
        places.augment = classes.augment = BatchAugment(AugmentOptions())  # drawn for each rank apart
        places.options = dataclasses.replace(places.options, places_per_batch=4 // share)
        classes.options = dataclasses.replace(classes.options, images_per_batch=8 // share)
        return mode, network_of()

    whole, two = gradients_of_one_and_two(made, tmp_path)
    assert two.keys() == whole.keys() and len(whole) > 10
    for name, value in whole.items():
        torch.testing.assert_close(two[name], value, atol=1e-5 * float(value.abs().max()), rtol=1e-3)


def test_what_does_not_fit_is_refused(tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match=r"--train_weights 1: of 2 datasets. Expected one for each name"):
        joint(tiny_dataset, ("places", "places"), weights=(1.0,))
    recipe = recipe_of(tiny_dataset, "geowarp")
    with pytest.raises(UserError, match="--train_mode geowarp: trains on one dataset"):
        build_mode(dataclasses.replace(recipe, roots=(tiny_dataset, tiny_dataset)))
    recipe = recipe_of(tiny_dataset, "places")
    with pytest.raises(UserError, match="--train_dataset_name tiny: twice as places"):
        build_mode(dataclasses.replace(recipe, roots=(tiny_dataset,) * 3))
    mode, _ = joint(tiny_dataset, ("places", "classes"))
    with pytest.raises(UserError, match=r"--train_dataset_name tiny tiny1: the interrupted run had one set"):
        mode.load_state_dict({})
    assert train_roots(DataOptions(dataset_name="a"))[0].name == "a"
