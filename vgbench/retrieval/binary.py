"""Binary codes: one bit a dimension, compared by their Hamming distance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.retrieval.compression_options import CompressionOptions
from vgbench.retrieval.faiss_library import load_faiss
from vgbench.retrieval.store import Descriptors

faiss = load_faiss("--quantise")

_SAMPLE_BYTES = 2**28


class BinaryCodes:
    """A bit says whether a dimension is above its mean; descriptors that are nowhere negative need that, not the sign.

    Attributes:
        bytes: of one code.
        state: the arrays that make the same again.
    """

    def __init__(self, dim: int, state: dict[str, NDArray[Any]]) -> None:
        """`state`: `thresholds` float32 [dim]."""
        self.dim, self.state = dim, state
        self.bytes = -(-dim // 8)

    @staticmethod
    def facts(database: Descriptors, options: CompressionOptions) -> list[Any]:
        """What the codes depend on beside the descriptors: nothing."""
        return []

    @staticmethod
    def fit(database: Descriptors, options: CompressionOptions) -> BinaryCodes:
        """Take the means of rows spread evenly over the database."""
        dim = database.shape[1]
        means = database.sample(max(1, _SAMPLE_BYTES // (4 * dim))).double().mean(0).float().numpy()
        return BinaryCodes(dim, {"thresholds": means})

    def encode(self, descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [N,bytes] of descriptors [N,D]; bits beyond D are zero."""
        return np.packbits(descriptors > self.state["thresholds"], axis=1)

    def nearest(
        self, codes: NDArray[np.uint8], queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return Hamming distances float32 [Q,k] from the codes of queries [Q,D], and the rows of those codes."""
        bits, rows = faiss.knn_hamming(self.encode(queries), np.ascontiguousarray(codes), k)
        return bits.astype(np.float32), rows.astype(np.int64)
