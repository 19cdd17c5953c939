"""Ways to train: one line a way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vgbench.data import DataOptions
from vgbench.data.augment import AugmentOptions
from vgbench.models import Network
from vgbench.runtime import Inference
from vgbench.training.modes.base import TrainingMode
from vgbench.training.modes.classes_options import ClassesOptions
from vgbench.training.modes.geowarp_options import GeowarpOptions
from vgbench.training.modes.places_options import PlacesOptions
from vgbench.training.options import TrainOptions
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


def build_mode(recipe: Recipe) -> TrainingMode[Any]:
    """Return the way to train that `--train_mode` names, its images read and checked.

    Raises:
        UserError: no such way, no images for it, or options that do not fit.
    """
    name, words = recipe.training.train_mode, recipe.training.train_mode_args
    keywords = TRAINING_MODES.keywords("train_mode", name, words)
    return cast(TrainingMode[Any], TRAINING_MODES.resolve(name)(recipe, **keywords))
