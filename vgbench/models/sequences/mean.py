"""The mean of the frames' descriptors (Facil et al., Condition-invariant multi-view place recognition, 2019)."""

from __future__ import annotations

from torch import Tensor

from vgbench.models.sequences.base import SequenceAggregation


class Mean(SequenceAggregation):
    """[B,L,F] to [B,F], whatever the order of the frames."""

    def __init__(self, frame_dim: int, seq_length: int) -> None:
        super().__init__()
        self.descriptors_dim = frame_dim

    def forward(self, frames: Tensor) -> Tensor:
        return frames.mean(dim=1)
