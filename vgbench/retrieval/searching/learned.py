"""Codes of a network's own hashing branch (`--hash_bits`), compared by their Hamming distances."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.options import CompressionOptions
from vgbench.retrieval.searching.codes import BinaryCodes


class LearnedCodes(BinaryCodes):
    """A bit says whether a learned projection of a descriptor is above its threshold.

    Attributes:
        bytes: of one code.
        state: the arrays that make the same again.
    """

    def __init__(self, dim: int, state: dict[str, NDArray[Any]]) -> None:
        """`state`: `weight` float32 [bits,dim] and `bias` float32 [bits], as `HashingBranch.thresholds` gives them."""
        self.dim, self.state = dim, state
        self.bytes = -(-len(state["bias"]) // 8)

    @staticmethod
    def fit(database: Descriptors, options: CompressionOptions) -> BinaryCodes:
        """Raise UserError: nothing is fitted, the network brings what it learned."""
        raise UserError(
            "--quantise hash: the network has no hashing branch. Expected one trained with --hash_bits; or --quantise "
            "binary, which needs no training"
        )

    def encode(self, descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [N,bytes] of descriptors [N,D]; bits beyond the code's are zero."""
        values = descriptors.astype(np.float32, copy=False) @ self.state["weight"].T + self.state["bias"]
        return np.packbits(values >= 0, axis=1)
