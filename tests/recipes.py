"""Training recipes of a tiny dataset, for the tests of the training modes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import on_ranks

from vgbench import parallel
from vgbench.data import DataOptions
from vgbench.data.augment import AugmentOptions
from vgbench.models import build_network
from vgbench.runtime import Inference, Runtime
from vgbench.training import Checkpoints, EpochRecalls, MetricsLogger, Run, TrainOptions, train
from vgbench.training.modes.classes_options import ClassesOptions
from vgbench.training.modes.places_options import PlacesOptions
from vgbench.training.modes.table import Recipe
from vgbench.training.optimisation.step import Memory, Stepper, set_training

PLACES_OPTIONS = PlacesOptions(
    place_cell=20, img_per_place=3, min_img_per_place=3, places_per_batch=4, passes_per_epoch=2
)
CLASSES_OPTIONS = ClassesOptions(M=20, N=2, L=1, min_images_per_class=2, images_per_batch=6, iterations_per_epoch=5)


def recipe_with(data: DataOptions, runtime: Runtime | None = None, **changes: Any) -> Recipe:
    """Return a recipe for images of `data.resize`, described four at a time; `changes` are any of its fields."""
    recipe = Recipe(
        root=Path(data.datasets_folder or ".") / data.dataset_name,
        data=data,
        training=TrainOptions(),
        places=PlacesOptions(),
        classes=ClassesOptions(),
        augmentation=AugmentOptions(),
        inference=Inference(data.resize, 4, data.num_workers, runtime or Runtime()),
        descriptors_dim=256,
        seed=0,
    )
    return dataclasses.replace(recipe, **changes)


def recipe_of(root: Path, mode: str, **changes: Any) -> Recipe:
    """Return a recipe for a way to train on the images of a dataset."""
    usual: dict[str, Any] = {
        "training": TrainOptions(
            train_mode=mode, epochs_num=2, lr=1e-3, lr_classifier=0.02 if mode == "classes" else None
        ),
        "places": PLACES_OPTIONS,
        "classes": CLASSES_OPTIONS,
        "augmentation": AugmentOptions(brightness=0.2, horizontal_flip=True),
    }
    data = DataOptions(datasets_folder=root.parent, dataset_name=root.name, resize=(32, 32), num_workers=0)
    return recipe_with(data, **(usual | changes))


def gradients_of(
    mode: Any, network: Any, path: Path | None = None, chunk: int | None = None
) -> dict[str, torch.Tensor]:
    """Return the gradients of a round's first step, summed over all ranks, and where this is rank 0 store them.

    With `chunk`, as many images go through the network together (`--grad_cache_chunk`).
    """
    memory = Memory(grad_cache_chunk=chunk, calls_apart=bool(getattr(mode, "calls_apart", False)))
    stepper = Stepper(network, Runtime(torch.device("cpu"), None, torch.contiguous_format), memory=memory)
    set_training(network, freeze_bn=True)
    batch = next(iter(mode.round(network, 0, 0)))
    set_training(network, freeze_bn=True)  # mining tests it
    stepper.backward(mode, batch, torch.Generator().manual_seed(0))
    stepper.gradients.add_the_rest(torch.optim.SGD(network.parameters(), lr=1.0))
    found = {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}
    if path is not None and parallel.is_main():
        torch.save(found, path)
    return found


def gradients_of_one_and_two(
    made: Callable[[int], tuple[Any, Any]], folder: Path, chunk: int | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the gradients of one process with the whole batch, and those of two ranks.

    Args:
        made: makes a mode and its network for ranks that have one part in so many of the batch.
        chunk: of the two ranks, as for `gradients_of`.
    """
    whole = gradients_of(*made(1))
    path = folder / "two.pt"
    statuses, said = on_ranks(2, lambda rank: gradients_of(*made(2), path, chunk), folder)
    assert statuses == [0, 0], said
    return whole, torch.load(path, weights_only=True)


@contextlib.contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, kind: Any, call: int) -> Iterator[None]:
    """Interrupt the body at a call of the loss of a class of modes, from 1; the body has to get so far."""
    calls, loss = [0], kind.loss

    def cut(self: Any, *given: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        found: torch.Tensor = loss(self, *given)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(kind, "loss", cut)
        with pytest.raises(KeyboardInterrupt):
            yield


def trained(mode: Any, network: Any, folder: Path, options: TrainOptions, *, resume: bool = False) -> Any:
    """Train a network in a folder, which each epoch improves, and return it; with `resume`, go on from there."""
    folder.mkdir(exist_ok=True)
    checkpoints = Checkpoints(folder, network.config, {})

    def validate(network: Any, epoch: int) -> EpochRecalls:
        return EpochRecalls({1: float(epoch), 5: float(epoch)})

    with MetricsLogger(folder, tensorboard=False) as watch:
        last = checkpoints.last if resume else None
        train(network, mode, validate, options, Runtime(), Run(checkpoints, watch, 0, last))
    return network


def network_of(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build_network("resnet18conv4", "gem", pretrain="none")
