"""What a user can set about training the part of a network that re-ranks by pairs of images."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import Options, above, at_least, option

JOINT, ALONE, OFF = "joint", "alone", "off"


@dataclass(frozen=True)
class PairTrainingOptions(Options, topic="training"):
    """How SelaVPR's, FoL's, R2Former's and Pair-VPR's second stages learn.

    Raises:
        UserError: a value is out of its range, or of a loss that there is not.
    """

    train_pairs: str | None = option(
        None, "the part of selavpr, fol, r2former and pairvpr that re-ranks: learns with the rest (joint), alone on a "
        "network that stays as it is (alone; validated with the re-ranker), or not (off)",
        choices=(JOINT, ALONE, OFF), unset="joint with triplets, places and classes",
    )  # fmt: skip
    pair_weight: float | None = option(
        None, "weight of the loss of pairs beside that of descriptors", range=above(0),
        unset="the paper's: 2 for pairvpr, else 1",
    )  # fmt: skip
    pair_margin: float = option(
        0.0, "selavpr and fol: by how much more alike the local features of a right pair should be than those of a "
        "wrong one, as a mean cosine", range=at_least(0),
    )  # fmt: skip

    def check_together(self) -> None:
        """Raise UserError for a loss of what does not learn."""
        if self.train_pairs == OFF and (self.pair_weight is not None or self.pair_margin):
            raise UserError("--train_pairs off: pairs have no loss. Expected no --pair_weight and no --pair_margin")
