"""Ways to train: one line a way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from vgbench.data import DataOptions
from vgbench.data.augment import AugmentOptions
from vgbench.data.sequences import SequenceRules
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.runtime import Inference
from vgbench.training.modes.base import TrainingMode
from vgbench.training.modes.classes_options import ClassesOptions
from vgbench.training.modes.distill_options import DistillOptions
from vgbench.training.modes.geowarp_options import GeowarpOptions
from vgbench.training.modes.places_options import PlacesOptions
from vgbench.training.options import JOINT_MODES, TrainOptions
from vgbench.training.tables import TRAINING_MODES as TRAINING_MODES


@dataclass(frozen=True)
class Recipe:
    """What a way to train is made from.

    Attributes:
        root: the folder of the dataset that is trained on.
        descriptors_dim: of the network that will be trained.
        inference: how images are described when mining, and the device that everything runs on.
        seed: the run's seed.
        network: the network itself, for a way that adds to it.
        roots: the folders of all datasets, where several are trained on together.
        rules: how images are cut into sequences, for a network of those.
        own_code: code outside this project, package.module:Class, that the user typed, which checkpoints may name.
    """

    root: Path
    data: DataOptions
    training: TrainOptions
    places: PlacesOptions
    classes: ClassesOptions
    augmentation: AugmentOptions
    inference: Inference
    descriptors_dim: int
    seed: int
    geowarp: GeowarpOptions = field(default_factory=GeowarpOptions)
    network: Network | None = None
    roots: tuple[Path, ...] = ()
    rules: SequenceRules | None = None
    distill: DistillOptions = field(default_factory=DistillOptions)
    own_code: tuple[str, ...] = ()


def build_mode(recipe: Recipe) -> TrainingMode[Any]:
    """Return the way to train that the options name, on one dataset or several, images read and checked.

    Raises:
        UserError: no such way, no images for it, or options that do not fit.
    """
    modes, count = recipe.training.train_modes, max(len(recipe.roots), 1)
    if modes is not None and len(modes) != count:
        raise UserError(
            f"--train_modes {' '.join(modes)}: of {count} datasets. Expected one for each name of --train_dataset_name"
        )
    if count == 1:
        return build_single(recipe if modes is None else replace(recipe, training=_as(recipe.training, modes[0])))
    if modes is None and recipe.training.train_mode not in JOINT_MODES:
        raise UserError(
            f"--train_mode {recipe.training.train_mode}: trains on one dataset. Expected one name for "
            f"--train_dataset_name, or a way among {', '.join(JOINT_MODES)}"
        )
    from vgbench.training.modes.joint import from_recipe

    return from_recipe(recipe)


def build_single(recipe: Recipe) -> TrainingMode[Any]:
    """Return the way to train on the dataset at `recipe.root`; raises UserError as `build_mode`."""
    name, words = recipe.training.train_mode, recipe.training.train_mode_args
    keywords = TRAINING_MODES.keywords("train_mode", name, words)
    return cast(TrainingMode[Any], TRAINING_MODES.resolve(name)(recipe, **keywords))


def _as(training: TrainOptions, mode: str) -> TrainOptions:
    return replace(training, train_mode=mode, train_modes=None)
