"""What a user can set about training the hashing branch of a network."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError
from vgbench.options import Options, at_least, option


@dataclass(frozen=True)
class HashingOptions(Options, needs="hash_bits", topic="training"):
    """The weights of the losses on codes.

    Raises:
        UserError: a value is out of its range, or nothing would be learned.
    """

    hash_metric_weight: float = option(
        1.0, "codes: weight of the loss of --train_mode places or triplets on codes in the place of descriptors",
        range=at_least(0),
    )  # fmt: skip
    hash_similarity_weight: float = option(
        0.1, "codes: weight of the mean squared difference between the cosine similarities of descriptors and of codes",
        range=at_least(0),
    )  # fmt: skip

    def check_together(self) -> None:
        """Raise UserError where nothing would be learned."""
        if not self.hash_metric_weight and not self.hash_similarity_weight:
            raise UserError("--hash_similarity_weight 0: nothing to learn codes from. Expected one weight above 0")
