"""Training with classes: a classifier for each group."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import CLASSES_OPTIONS, network_of, recipe_of

from vgbench.training.modes.table import build_mode


@pytest.mark.parametrize("loss", ["cosface", "arcface", "sphereface"])
@pytest.mark.parametrize("partition", ["cosplace", "eigenplaces"])
def test_a_classifier_for_each_group(tiny_dataset: Path, partition: str, loss: str) -> None:
    _give_headings(tiny_dataset)
    options = dataclasses.replace(
        CLASSES_OPTIONS, partition=partition, margin_loss=loss, focal_tolerance=180.0, lambda_front=0.5
    )
    mode: Any = build_mode(recipe_of(tiny_dataset, "classes", classes=options))
    network = network_of()
    forward = lambda images: network(images)  # noqa: E731
    for epoch in range(len(mode.groups)):
        (batch, *_) = mode.round(network, epoch, 0)
        parts = mode.groups[epoch]
        assert len(parts) == (2 if partition == "eigenplaces" else 1)
        assert len(batch) == 6 * len(parts) and int(batch.labels.max()) < sum(map(len, parts))
        mode.loss(forward, batch, torch.Generator()).backward()
        mine = [head.weight.grad for head in mode.heads[epoch]]
        assert all(grad is not None and grad.abs().sum() > 0 for grad in mine)
        (optimizer,) = mode.optimizers(epoch)
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        assert held == {id(head.weight) for head in mode.heads[epoch]}


def _give_headings(root: Path) -> None:
    for number, path in enumerate(sorted((root / "images" / "train").rglob("*.jpg"))):
        fields = path.name.split("@")
        fields[9] = f"{90 * (number % 2):03d}"
        path.rename(path.with_name("@".join(fields)))
