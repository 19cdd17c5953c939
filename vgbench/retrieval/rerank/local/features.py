"""Local features of one image, and what makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vgbench.retrieval.rerank.local import EXTRACTORS
from vgbench.runtime import Runtime


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Keypoints and descriptors of one image, strongest first.

    Attributes:
        keypoints: float32 [n,2], x and y in pixels from the centre of the first one.
        descriptors: float32 [n,D] of unit length, or uint8 [n,B] of 8 bits per byte.
        size: width and height of the image in pixels.
    """

    keypoints: NDArray[np.float32]
    descriptors: NDArray[np.generic]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.keypoints)

    def vectors(self) -> NDArray[np.float32]:
        """Return descriptors float32 [n,D] of unit length, whose products order as their similarities do."""
        if self.descriptors.dtype != np.uint8:
            return self.descriptors.astype(np.float32, copy=False)
        bits = np.unpackbits(self.descriptors.view(np.uint8), axis=1).astype(np.float32)
        return np.asarray((2 * bits - 1) / np.float32(np.sqrt(bits.shape[1])), dtype=np.float32)


Matches = NDArray[np.int64]
"""int64 [m,2]: keypoints of the query beside keypoints of the candidate."""


class Extractor(Protocol):
    """What `--local_features` names; a user's own is made as `Class(keypoints, runtime)`.

    Attributes:
        name: of the features and their weights, for the fingerprint of what is kept.
        dim: D, or B for binary ones.
        binary: whether descriptors are uint8 bits.
    """

    name: str
    dim: int
    binary: bool

    def __call__(self, images: Tensor) -> list[LocalFeatures]:
        """Return the features of images uint8 [B,3,H,W] on the CPU."""


def make_extractor(name: str, keypoints: int, runtime: Runtime, keywords: Mapping[str, Any] | None = None) -> Extractor:
    """Return the extractor of a name, with keywords of `--local_features_args`.

    Raises:
        UserError: there is none, or it needs a package that is not installed.
    """
    made: Extractor = EXTRACTORS.resolve(name)(keypoints, runtime, **(keywords or {}))
    if keywords:  # features that are kept are found again by their name
        made.name = f"{made.name}-{hashlib.sha256(repr(sorted(keywords.items())).encode()).hexdigest()[:8]}"
    return made
