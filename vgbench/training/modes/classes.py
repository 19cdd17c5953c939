"""Training with classes: one group of classes an epoch, a classifier with a margin for each (CosPlace, EigenPlaces)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vgbench import parallel
from vgbench.data.augment import BatchAugment
from vgbench.data.classes import Group, cosplace_groups, eigenplaces_groups, groups_line
from vgbench.data.encoded import reader_of
from vgbench.data.headings import with_compass_headings
from vgbench.data.labelled import LabelledBatch, labelled_loader, own_part
from vgbench.data.places import read_train_images
from vgbench.data.table import ImageTable
from vgbench.data.translated import build_views
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.randomness import numpy_stream, stream_seed
from vgbench.training.losses.margin import MARGIN_LOSSES, MarginHead
from vgbench.training.modes.base import Forward, Round
from vgbench.training.modes.classes_options import ClassesOptions
from vgbench.training.modes.table import Recipe
from vgbench.training.optimisation.optim import build_own_optimizer, load_optimizer

ITERATIONS_PER_ROUND = 1000
# What the papers and their code have, by partition: M, N, groups, images per class.
_USUAL: dict[str, dict[str, float]] = {
    "cosplace": {"M": 10.0, "N": 5, "groups_num": 8, "min_images_per_class": 10},
    "eigenplaces": {"M": 15.0, "N": 3, "groups_num": 9, "min_images_per_class": 5},
}
_USUAL_S = {"cosface": 30.0, "arcface": 64.0, "sphereface": 30.0}
_USUAL_M = {"cosface": 0.4, "arcface": 0.5, "sphereface": 1.5}


def from_recipe(recipe: Recipe) -> ClassesMode:
    """Read the images and make the mode; raises UserError."""
    return ClassesMode(read_train_images(recipe.data, recipe.root), recipe)


class ClassesMode:
    """Epochs of `iterations_per_epoch` steps, each epoch on the next group with that group's own classifier.

    Args:
        images: all training images.
        recipe: everything else.

    Raises:
        UserError: no group with two classes; a margin loss that is not known.
    """

    def __init__(self, images: ImageTable, recipe: Recipe) -> None:
        self.images, self.recipe, self.options = images, recipe, recipe.classes
        self.groups = make_groups(images, self.options, recipe.root.name)
        if not self.groups and np.isnan(images.heading).all() and self.options.partition == "eigenplaces":
            raise UserError(
                f"{images.root}: no name has a heading, and eigenplaces takes images by where they look. Expected "
                "headings in field 9 of the names, or --partition cosplace"
            )
        if not self.groups:
            raise UserError(
                f"{images.root}: no group of two classes or more among {len(images)} images. Expected places seen by "
                f"--min_images_per_class {_setting(self.options, 'min_images_per_class'):g} images; lower that, or "
                "raise --M"
            )
        self.heads = [self._heads_of(number) for number in range(len(self.groups))]
        self.own_optimizers = [build_own_optimizer(heads.parameters(), recipe.training) for heads in self.heads]
        self.current = 0
        self.augment = BatchAugment(recipe.augmentation)
        self.views = build_views(
            recipe.augmentation.translated_folder, recipe.augmentation.translated_probability, recipe.seed, images
        )

    @property
    def rounds_per_epoch(self) -> int:
        """How often an epoch is saved."""
        return -(-self.options.iterations_per_epoch // ITERATIONS_PER_ROUND)

    def round(self, network: Network, epoch: int, index: int) -> Round[LabelledBatch]:
        """Draw the images of up to 1000 steps from the epoch's group."""
        self.augment.multiple = network.resize_multiple
        self.current = epoch % len(self.groups)
        group = self.groups[self.current]
        steps = min(ITERATIONS_PER_ROUND, self.options.iterations_per_epoch - index * ITERATIONS_PER_ROUND)
        size = self.options.images_per_batch * parallel.world()
        parts = []
        offset = 0
        for number, classes in enumerate(group):
            rng = numpy_stream(self.recipe.seed, "classes", epoch, index, number)
            rows, labels = classes.draw(steps * size, rng)
            # One batch has images of all parts: frontal classes are numbered after the lateral ones.
            parts.append((rows.reshape(steps, size), labels.reshape(steps, size) + offset))
            offset += len(classes)
        rows, labels = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
        return labelled_loader(
            self.images,
            [own_part(batch) for batch in zip(rows, labels, strict=True)],
            size=self.recipe.data.resize,
            num_workers=self.recipe.data.workers,
            views=self.views,
            position=(epoch, index),
            read=None if self.views else reader_of(self.recipe.inference),
        )

    def loss(self, forward: Forward, batch: LabelledBatch, generator: torch.Generator) -> Tensor:
        """Return the classifiers' cross-entropy [], a weighted sum where a group has lateral and frontal classes."""
        descriptors = forward(self.augment.augment_places(batch.images, batch.labels, generator))
        # Every rank has the loss of all images, and takes its part of it.
        descriptors, labels = parallel.all_gather(descriptors), parallel.all_gather(batch.labels)
        group, heads = self.groups[self.current], self.heads[self.current]
        weights = (self.options.lambda_lat, self.options.lambda_front) if len(group) > 1 else (1.0,)
        total = descriptors.new_zeros(())
        offset = 0
        for classes, head, weight in zip(group, heads, weights, strict=True):
            own = (labels >= offset) & (labels < offset + len(classes))
            total = total + weight * cast(MarginHead, head)(descriptors[own], labels[own] - offset)
            offset += len(classes)
        return total / parallel.world()

    def optimizers(self, epoch: int) -> Sequence[torch.optim.Optimizer]:
        """Return the optimiser of the epoch's classifier."""
        return (self.own_optimizers[epoch % len(self.groups)],)

    def state_dict(self) -> dict[str, Any]:
        """Return all classifiers and their optimisers."""
        return {
            "margin_loss": self.options.margin_loss,
            "heads": [heads.state_dict() for heads in self.heads],
            "optimizers": [optimizer.state_dict() for optimizer in self.own_optimizers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the classifiers; raises UserError if the interrupted run had others."""
        if state.get("margin_loss") != self.options.margin_loss or len(state["heads"]) != len(self.heads):
            raise UserError(
                f"--margin_loss {self.options.margin_loss}: the interrupted run had "
                f"{state.get('margin_loss', 'another way to train')} on {len(state.get('heads', ()))} groups. Expected "
                "the same; start a new run to change it"
            )
        try:
            for heads, saved in zip(self.heads, state["heads"], strict=True):
                heads.load_state_dict(saved)
        except RuntimeError as error:
            raise UserError(
                f"{self.images.root}: the interrupted run had other classes. Expected the same images and the same "
                "--M, --alpha, --N, --L; start a new run to change them"
            ) from error
        for optimizer, saved in zip(self.own_optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)

    def summary(self) -> str:
        """Return one line for the log."""
        return (
            f"{groups_line(self.groups)} ({self.options.partition}) from {len(self.images)} images: "
            f"{self.options.margin_loss} loss, {self.options.iterations_per_epoch} steps of "
            f"{self.options.images_per_batch} images per epoch"
        )

    def _heads_of(self, number: int) -> nn.ModuleList:
        """The classifiers of a group, drawn from a stream of their own."""
        name, words = self.options.margin_loss, self.options.margin_loss_args
        make = partial(MARGIN_LOSSES.resolve(name), **MARGIN_LOSSES.keywords("margin_loss", name, words))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self.recipe.seed, "classifier", number))
            scale, margin = scale_and_margin(self.options)
            heads = [make(self.recipe.descriptors_dim, len(part), scale, margin) for part in self.groups[number]]
        return nn.ModuleList(heads).to(self.recipe.inference.runtime.device)


def make_groups(images: ImageTable, options: ClassesOptions, dataset: str = "") -> Sequence[Group]:
    """Divide the images as `--partition` says; `dataset` is the name of the set they are of."""
    side, spacing = _setting(options, "M"), int(_setting(options, "N"))
    at_least, most = int(_setting(options, "min_images_per_class")), int(_setting(options, "groups_num"))
    if options.partition == "eigenplaces":
        images = with_compass_headings(images, options.crop_headings, dataset)
        return eigenplaces_groups(
            images, side=side, spacing=spacing, focal=options.focal_dist, tolerance=options.focal_tolerance,
            at_least=at_least, most=most,
        )  # fmt: skip
    return cosplace_groups(
        images, side=side, angle=options.alpha, spacing=spacing, turns=options.L, at_least=at_least, most=most
    )


def scale_and_margin(options: ClassesOptions) -> tuple[float, float]:
    """Return --s and --m, as is usual for the loss where they are not set."""
    scale = _USUAL_S.get(options.margin_loss, 30.0)
    if options.partition == "eigenplaces" and options.margin_loss == "cosface":
        scale = 100.0
    margin = _USUAL_M.get(options.margin_loss, 0.4)
    return scale if options.s is None else options.s, margin if options.m is None else options.m


def _setting(options: ClassesOptions, name: str) -> float:
    value = getattr(options, name)
    return float(_USUAL[options.partition][name] if value is None else value)
