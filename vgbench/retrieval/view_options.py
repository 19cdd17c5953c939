"""What a user can set about the views of an image: test methods and scales."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import DISTINCT, Options, above, arguments, at_least, option

POOLINGS = ("mean", "max", "gem", "concat")
PRESETS = ("down", "up", "random_crop")


@dataclass(frozen=True)
class ViewOptions(Options, topic="evaluation"):
    """Options of how an image becomes the images that are described."""

    test_method: str = option(
        "hard_resize",
        "how query images are resized or cropped",
        registry="vgbench.retrieval.query_methods:QUERY_METHODS",
        common=True,
    )
    test_method_args: tuple[str, ...] | None = arguments("test_method")
    majority_weight: float = option(
        0.01, "what the vote of one crop subtracts from a squared distance (maj_voting)", range=at_least(0),
        needs="test_method=maj_voting",
    )  # fmt: skip
    scales: tuple[float, ...] = option(
        (1.0,), "describe each image, of the database too, at these multiples of --resize and pool the descriptors",
        range=above(0, at_most=16), together=DISTINCT,
    )  # fmt: skip
    scale_pooling: str = option(
        "mean", "how descriptors of several scales become one; gem is the power mean with p = 3", choices=POOLINGS
    )
    multi_scale: str | None = option(
        None,
        "instead of --scales: down (480x640, 400x534, 343x458, 332x427), up (480x640, 576x768, 672x896, 720x960), or "
        "random_crop (five windows of 320x430, at the same places of every image)",
        choices=PRESETS,
    )

    def check_together(self) -> None:
        """Refuse what leaves nothing to do for --multi_scale or --scale_pooling."""
        if self.multi_scale is not None and tuple(self.scales) != (1.0,):
            raise UserError("--multi_scale: brings its own sizes. Expected it without --scales; leave one of them out")
        if self.scale_pooling != "mean" and len(self.scales) == 1 and self.multi_scale is None:
            raise UserError(
                f"--scale_pooling {self.scale_pooling}: there is one scale, nothing to pool. Expected --scales or "
                "--multi_scale beside it; leave it out"
            )
