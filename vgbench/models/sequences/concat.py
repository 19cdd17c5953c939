"""The frames' descriptors one after the other (the late fusion of Mereu et al., 2022)."""

from __future__ import annotations

from torch import Tensor

from vgbench.models.sequences.base import SequenceAggregation


class Concat(SequenceAggregation):
    """[B,L,F] to [B,L*F]; the order of the frames counts. `--pca_dim` makes it small."""

    def __init__(self, frame_dim: int, seq_length: int) -> None:
        super().__init__()
        self.descriptors_dim = frame_dim * seq_length

    def forward(self, frames: Tensor) -> Tensor:
        return frames.flatten(1)
