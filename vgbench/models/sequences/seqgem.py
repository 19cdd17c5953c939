"""SeqGeM: the generalised mean over frames (JIST: Berton, Trivigno, Caputo and Masone, RA-L 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench.models.layers import full_precision
from vgbench.models.sequences.base import SequenceAggregation


class SeqGeM(SequenceAggregation):
    """`mean(x^p)^(1/p)` of each dimension over the frames, [B,L,F] to [B,F]; p is learned, from 3.

    As published, what is below `eps` counts as it: of descriptors with negative values (behind --fc_output_dim, say)
    the positive ones alone are kept.
    """

    def __init__(self, frame_dim: int, seq_length: int, *, p: float = 3.0, eps: float = 1e-6) -> None:
        """`p`: where the exponent starts. `eps`: the smallest value, since powers need positive numbers."""
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * p)
        self.eps = eps
        self.descriptors_dim = frame_dim

    def forward(self, frames: Tensor) -> Tensor:
        with full_precision(frames):
            return frames.float().clamp(min=self.eps).pow(self.p).mean(dim=1).pow(1.0 / self.p)
