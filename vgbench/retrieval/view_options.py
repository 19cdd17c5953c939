"""What a user can set about the views of an image: test methods and scales."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import option
from vgbench.retrieval.query_methods import QUERY_METHODS

POOLINGS = ("mean", "max", "gem", "concat")
PRESETS = ("down", "up", "random_crop")


@dataclass(frozen=True)
class ViewOptions:
    """Options of how an image becomes the images that are described."""

    test_method: str = option(
        "hard_resize",
        "how a query becomes the images that are described: hard_resize, single_query, central_crop, five_crops, "
        "nearest_crop, maj_voting, flip, or your own as package.module:Class",
    )
    majority_weight: float = option(
        0.01, "what a crop's vote takes off a squared distance (maj_voting)", needs="test_method=maj_voting"
    )
    scales: tuple[float, ...] = option(
        (1.0,), "describe each image, of the database too, at these multiples of --resize and pool the descriptors"
    )
    scale_pooling: str = option(
        "mean", "how descriptors of several scales become one; gem is the power mean with p = 3", choices=POOLINGS
    )
    multi_scale: str | None = option(
        None,
        "instead of --scales: down (480x640, 400x534, 343x458, 332x427), up (480x640, 576x768, 672x896, 720x960), or "
        "random_crop (five windows of 320x430, at the same places of every image)",
        choices=PRESETS,
    )

    def check_views(self) -> None:
        """Refuse values that no run could use."""
        QUERY_METHODS.resolve(self.test_method)
        if not self.scales or not all(0 < scale <= 16 for scale in self.scales):
            raise UserError(f"--scales {' '.join(map(str, self.scales))}: expected multiples of --resize, 0 to 16")
        if len(set(self.scales)) < len(self.scales):
            raise UserError(f"--scales {' '.join(map(str, self.scales))}: a scale is there twice; expected each once")
        if self.scale_pooling not in POOLINGS:
            raise UserError(f"--scale_pooling {self.scale_pooling}: expected one of {', '.join(POOLINGS)}")
        if self.multi_scale is not None and self.multi_scale not in PRESETS:
            raise UserError(f"--multi_scale {self.multi_scale}: expected one of {', '.join(PRESETS)}")
        if self.multi_scale is not None and tuple(self.scales) != (1.0,):
            raise UserError("--multi_scale: brings its own sizes. Expected it without --scales; leave one of them out")
        if self.scale_pooling != "mean" and len(self.scales) == 1 and self.multi_scale is None:
            raise UserError(
                f"--scale_pooling {self.scale_pooling}: there is one scale, nothing to pool. Expected --scales or "
                "--multi_scale beside it; leave it out"
            )
        if not self.majority_weight >= 0:
            raise UserError(f"--majority_weight {self.majority_weight}: expected 0 or more")
