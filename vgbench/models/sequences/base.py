"""What an aggregation over frames says of itself."""

from __future__ import annotations

from torch import nn

from vgbench.models.base import Aggregation


class SequenceAggregation(nn.Module):
    """Descriptors of frames, float32 [B,L,F], in the order in which they were taken, to sequences' [B,D].

    Attributes:
        descriptors_dim: D.
    """

    descriptors_dim: int

    def bind(self, aggregation: Aggregation) -> None:
        """Agree with the aggregation that describes the frames; raises UserError for one that does not fit."""
