"""Product quantisation (Jegou, Douze and Schmid, 2011) by faiss: codes of descriptors, asymmetric distances to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.options import CompressionOptions
from vgbench.retrieval.searching.faiss_library import load_faiss

faiss = load_faiss("--quantise")

_SAMPLE_BYTES = 2**28
_PARTS = 64


def subvectors(shape: tuple[int, int], options: CompressionOptions) -> int:
    """Return the number of parts of descriptors of a shape [N,D]; raises UserError where they cannot be coded."""
    rows, dim = shape
    parts = options.pq_subvectors or max(part for part in range(1, _PARTS + 1) if dim % part == 0)
    if dim % parts:
        fitting = [part for part in range(1, dim + 1) if dim % part == 0]
        near = sorted(sorted(fitting, key=lambda part: abs(part - parts))[:3])
        raise UserError(
            f"--pq_subvectors {parts}: does not divide the descriptors' {dim} dimensions. "
            f"Expected a divisor, such as {', '.join(map(str, near))}"
        )
    if rows < 2**options.pq_bits:
        raise UserError(
            f"--pq_bits {options.pq_bits}: {rows} database images are fewer than its {2**options.pq_bits} centroids. "
            f"Expected more images{', or --pq_bits 4' if options.pq_bits > 4 else ''}; use --quantise binary"
        )
    return parts


class ProductCodes:
    """A codebook: each part of a descriptor becomes the number of its nearest centroid.

    Attributes:
        bytes: of one code.
        state: the arrays that make the same again.
    """

    def __init__(self, dim: int, state: dict[str, NDArray[Any]]) -> None:
        """`state`: `parts` and `bits` int64 [1], `centroids` float32 [parts * 2**bits * dim/parts]."""
        self.dim, self.state = dim, state
        self.parts, self.bits = int(state["parts"][0]), int(state["bits"][0])
        self.bytes = -(-self.parts * self.bits // 8)
        self._index = faiss.IndexPQ(dim, self.parts, self.bits)
        faiss.copy_array_to_vector(state["centroids"].astype(np.float32).ravel(), self._index.pq.centroids)
        self._index.is_trained = True

    @staticmethod
    def check_shape(shape: tuple[int, int], options: CompressionOptions) -> None:
        """Raise UserError for descriptors [N,D] that cannot be coded."""
        subvectors(shape, options)

    @staticmethod
    def facts(database: Descriptors, options: CompressionOptions) -> list[Any]:
        """What the codes depend on beside the descriptors; raises UserError as `subvectors` does."""
        return [subvectors(database.shape, options), options.pq_bits]

    @staticmethod
    def fit(database: Descriptors, options: CompressionOptions) -> ProductCodes:
        """Learn the centroids from rows spread evenly over the database."""
        dim, parts = database.shape[1], subvectors(database.shape, options)
        learned = faiss.ProductQuantizer(dim, parts, options.pq_bits)
        learned.cp.min_points_per_centroid = 1  # faiss would complain to the console about small databases
        sample = max(min(_SAMPLE_BYTES // (4 * dim), 2**16), 2**options.pq_bits)
        learned.train(database.sample(sample).numpy())
        state = {
            "parts": np.array([parts]),
            "bits": np.array([options.pq_bits]),
            "centroids": faiss.vector_to_array(learned.centroids),
        }
        return ProductCodes(dim, state)

    def encode(self, descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [N,bytes] of descriptors [N,D]."""
        codes: NDArray[np.uint8] = self._index.pq.compute_codes(descriptors)
        return codes

    def nearest(
        self, codes: NDArray[np.uint8], queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return Euclidean distances float32 [Q,k] from queries [Q,D] to what the codes stand for, and their rows."""
        self._index.reset()
        self._index.add_sa_codes(codes)
        squared, rows = self._index.search(queries, k)
        return np.sqrt(np.maximum(squared, 0)), rows
