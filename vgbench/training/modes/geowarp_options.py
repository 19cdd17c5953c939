"""What a user can set about training GeoWarp."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import Options, above, at_least, option

_WEIGHT = at_least(0)


@dataclass(frozen=True)
class GeowarpOptions(Options, needs="train_mode=geowarp"):
    """Options of --train_mode geowarp: the views it makes of images, and the weights of its losses.

    Raises:
        UserError: a value is out of its range.
    """

    geowarp_cut: float = option(
        0.6, "how much is cut off two views of an image: at each side up to half of this part of its length",
        range=above(0, below=1),
    )  # fmt: skip
    geowarp_views_weight: float = option(
        1.0, "weight of the loss on the known corners of two views of an image", range=_WEIGHT
    )
    geowarp_consistency_weight: float = option(
        0.1, "weight of the loss that asks for mirrored answers when a real pair is mirrored", range=_WEIGHT
    )
    geowarp_features_weight: float = option(
        0.1,
        "weight of the distance of the local features of real pairs, cut as answered; 0 saves half of the time",
        range=_WEIGHT,
    )

    @property
    def uses_pairs(self) -> bool:
        """Whether real pairs are looked at."""
        return self.geowarp_consistency_weight > 0 or self.geowarp_features_weight > 0

    def check_together(self) -> None:
        """Raise UserError where all weights of the losses are 0, so that nothing would be learned."""
        if not self.uses_pairs and not self.geowarp_views_weight:
            raise UserError("--geowarp_views_weight 0: nothing to learn from. Expected one weight above 0")
