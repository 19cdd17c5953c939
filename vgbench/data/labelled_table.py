"""A table of images with a label each, apart from the batches that need torch: sets of places are listed without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgbench.data.table import ImageTable

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """Images and the place or class of each.

    Attributes:
        table: N images.
        labels: int64 [N], from 0, without gaps.
    """

    table: ImageTable
    labels: Rows

    @property
    def count(self) -> int:
        """How many places or classes there are."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0
