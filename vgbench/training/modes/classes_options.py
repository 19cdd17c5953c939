"""What a user can set about training with classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from vgbench.data.headings import CONVENTIONS
from vgbench.errors import UserError
from vgbench.options import check_above_zero, check_at_least, option

_option = partial(option, needs="train_mode=classes")
_cosplace = partial(option, needs="train_mode=classes,partition=cosplace")
_eigenplaces = partial(option, needs="train_mode=classes,partition=eigenplaces")


@dataclass(frozen=True)
class ClassesOptions:
    """Options of --train_mode classes (names of CosPlace and EigenPlaces; what is unset is as those papers have it).

    Raises:
        UserError: a value is out of its range.
    """

    partition: str = _option(
        "cosplace", "how images become classes: cells and headings, or views of focal points",
        choices=("cosplace", "eigenplaces"),
    )  # fmt: skip
    M: float | None = _option(None, "side of a cell, metres; unset: 10 for cosplace, 15 for eigenplaces")
    alpha: float = _cosplace(30.0, "width of a bin of headings, degrees (cosplace)")
    N: int | None = _option(None, "cells of a group are N cells apart; unset: 5 for cosplace, 3 for eigenplaces")
    L: int = _cosplace(2, "headings of a group are L bins apart (cosplace)")
    focal_dist: float = _eigenplaces(
        10.0, "distance of the focal points from the middle of a cell, metres (eigenplaces)"
    )
    focal_tolerance: float = _eigenplaces(
        45.0, "images look at a focal point to within this angle, degrees (eigenplaces)"
    )
    crop_headings: str = _eigenplaces(
        "auto",
        "what the headings in the names are of: the centre, clockwise; the leftmost column; or that counter-clockwise, "
        "as in SF-XL by its README; auto: the last for sf_xl and sf_xs (eigenplaces)",
        choices=CONVENTIONS,
    )
    lambda_lat: float = _eigenplaces(1.0, "weight of the lateral views' loss (eigenplaces)")
    lambda_front: float = _eigenplaces(1.0, "weight of the frontal views' loss (eigenplaces)")
    groups_num: int | None = _option(None, "groups to train on, one an epoch; unset: 8 for cosplace, 9 for eigenplaces")
    min_images_per_class: int | None = _option(
        None, "classes with fewer images are left out; unset: 10 for cosplace, 5 for eigenplaces"
    )
    iterations_per_epoch: int = _option(10_000, "training steps of an epoch; the run is saved after each 1000")
    images_per_batch: int = _option(32, "images in a training step")
    margin_loss: str = _option("cosface", "cosface, arcface, sphereface, or your own as package.module:Class")
    s: float | None = _option(
        None, "scale of the logits; unset: cosface 30 (100 for eigenplaces), arcface 64, sphereface 30"
    )
    m: float | None = _option(None, "margin; unset: cosface 0.4, arcface 0.5 (radians), sphereface 1.5 (a factor)")

    def __post_init__(self) -> None:
        check_at_least(
            self, 1, "N", "L", "groups_num", "min_images_per_class", "iterations_per_epoch", "images_per_batch"
        )
        check_above_zero(self, "M", "alpha", "focal_dist", "focal_tolerance", "s")
        for name in ("lambda_lat", "lambda_front", "m"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"--{name} {value}: out of range. Expected a number of at least 0")
        if self.partition not in ("cosplace", "eigenplaces"):
            raise UserError(f"--partition {self.partition}: not known. Expected cosplace or eigenplaces")
        if self.crop_headings not in CONVENTIONS:
            raise UserError(f"--crop_headings {self.crop_headings}: expected one of {', '.join(CONVENTIONS)}")
        if self.margin_loss == "sphereface" and self.m is not None and self.m < 1:
            raise UserError(f"--m {self.m}: multiplies the angle in sphereface. Expected a number of at least 1")
