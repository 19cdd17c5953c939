"""ImAge (Lu et al., 2025): tokens that aggregate, put among the others within the transformer; there is no head."""

from __future__ import annotations

from torch import Tensor

from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class ImAge(Aggregation):
    """The aggregation tokens of the backbone, one after the other, [B,A*C]: to the same, L2-normalised."""

    takes = "vector"
    needs = "aggregation_tokens"

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.descriptors_dim = in_channels

    def forward(self, tokens: Tensor) -> Tensor:
        return l2_normalise(tokens)
