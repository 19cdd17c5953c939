"""What a user can set about training GeoWarp."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from vgbench.errors import UserError
from vgbench.options import check_from_zero, option

_option = partial(option, needs="train_mode=geowarp")


@dataclass(frozen=True)
class GeowarpOptions:
    """Options of --train_mode geowarp: the views it makes of images, and the weights of its losses.

    Raises:
        UserError: a value is out of its range.
    """

    geowarp_cut: float = _option(
        0.6, "two views of an image are cut by up to half of this at each side, of the side's length; 0 to below 1"
    )
    geowarp_views_weight: float = _option(1.0, "weight of the loss on the known corners of two views of an image")
    geowarp_consistency_weight: float = _option(
        0.1, "weight of the loss on real pairs whose answer is not mirrored when they are"
    )
    geowarp_features_weight: float = _option(
        0.1, "weight of the distance of the local features of real pairs, cut as answered; 0 saves half of the time"
    )

    @property
    def uses_pairs(self) -> bool:
        """Whether real pairs are looked at."""
        return self.geowarp_consistency_weight > 0 or self.geowarp_features_weight > 0

    def __post_init__(self) -> None:
        if not 0 < self.geowarp_cut < 1:
            raise UserError(f"--geowarp_cut {self.geowarp_cut}: out of range. Expected above 0 and below 1")
        weights = ("geowarp_views_weight", "geowarp_consistency_weight", "geowarp_features_weight")
        check_from_zero(self, *weights)
        if not any(getattr(self, name) for name in weights):
            raise UserError("--geowarp_views_weight 0: nothing to learn from. Expected one weight above 0")
