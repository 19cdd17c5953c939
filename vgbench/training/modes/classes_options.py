"""What a user can set about training with classes."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.data.options import CONVENTIONS
from vgbench.errors import UserError
from vgbench.options import Options, above, arguments, at_least, option

_MODE = "train_mode=classes or train_modes=classes"
_COUNT, _SIZE, _FROM_0 = at_least(1), above(0), at_least(0)


@dataclass(frozen=True)
class CosPlaceGroupsOptions(Options, needs=f"{_MODE},partition=cosplace", topic="classes"):
    """Groups of classes as CosPlace has them."""

    alpha: float = option(30.0, "width of a bin of headings, degrees", range=_SIZE)
    L: int = option(2, "headings of a group are L bins apart", range=_COUNT)


@dataclass(frozen=True)
class EigenPlacesOptions(Options, needs=f"{_MODE},partition=eigenplaces", topic="classes"):
    """Groups of classes as EigenPlaces has them."""

    focal_dist: float = option(10.0, "distance of the focal points from the middle of a cell, metres", range=_SIZE)
    focal_tolerance: float = option(
        45.0,
        "images whose heading is within this angle of the direction to a focal point look at it, degrees",
        range=_SIZE,
    )
    crop_headings: str = option(
        "auto",
        "what the headings in the names are of: the centre, clockwise; the leftmost column; or that counter-clockwise; "
        "auto: for sf_xl and sf_xs the leftmost column, turning as overlapping crops show",
        choices=CONVENTIONS,
    )
    lambda_lat: float = option(1.0, "weight of the loss of lateral views", range=_FROM_0)
    lambda_front: float = option(1.0, "weight of the loss of frontal views", range=_FROM_0)


@dataclass(frozen=True)
class ClassesOptions(EigenPlacesOptions, CosPlaceGroupsOptions, needs=_MODE):
    """Options of --train_mode classes (names of CosPlace and EigenPlaces; what is unset is as those papers have it).

    Raises:
        UserError: a value is out of its range.
    """

    partition: str = option(
        "cosplace", "how images become classes: cells and headings, or views of focal points",
        choices=("cosplace", "eigenplaces"),
    )  # fmt: skip
    M: float | None = option(None, "side of a cell, metres", range=_SIZE, unset="10 for cosplace, 15 for eigenplaces")
    N: int | None = option(
        None, "cells of a group are N cells apart", range=_COUNT, unset="5 for cosplace, 3 for eigenplaces"
    )
    groups_num: int | None = option(
        None, "groups to train on, one in each epoch", range=_COUNT, unset="8 for cosplace, 9 for eigenplaces"
    )
    min_images_per_class: int | None = option(
        None, "classes with fewer images are left out", range=_COUNT, unset="10 for cosplace, 5 for eigenplaces"
    )
    iterations_per_epoch: int = option(
        10_000, "training steps of an epoch; the run is saved after each 1000", range=_COUNT
    )
    images_per_batch: int = option(32, "images in a training step", range=_COUNT)
    margin_loss: str = option("cosface", "loss of the classifiers", registry="vgbench.training.tables:MARGIN_LOSSES")
    margin_loss_args: tuple[str, ...] | None = arguments("margin_loss")
    s: float | None = option(
        None, "scale of the logits", range=_SIZE,
        unset="cosface 30 (100 for eigenplaces), arcface 64, sphereface 30",
    )  # fmt: skip
    m: float | None = option(
        None, "margin", range=_FROM_0, unset="cosface 0.4, arcface 0.5 (radians), sphereface 1.5 (a factor)"
    )

    def check_together(self) -> None:
        """Raise UserError for a margin that SphereFace cannot have."""
        if self.margin_loss == "sphereface" and self.m is not None and self.m < 1:
            raise UserError(f"--m {self.m}: multiplies the angle in sphereface. Expected a number of at least 1")
