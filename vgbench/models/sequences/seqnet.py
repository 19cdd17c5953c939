"""SeqNet: a convolution along the frames (Garg and Milford, SeqNet: learning descriptors for sequences, RA-L 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.layers import full_precision, l2_normalise
from vgbench.models.sequences.base import SequenceAggregation


class SeqNet(SequenceAggregation):
    """A 1-D convolution of `seqnet_width` frames over [B,L,F], without padding, averaged and L2-normalised: [B,D].

    Its weights are learned, the descriptors of frames being given: the authors train it alone.
    """

    def __init__(
        self, frame_dim: int, seq_length: int, *, seqnet_width: int = 5, seqnet_dim: int | None = None
    ) -> None:
        """`seqnet_width`: frames that a filter sees. `seqnet_dim`: D (None: F).

        Raises:
            UserError: a filter wider than the sequence.
        """
        super().__init__()
        if seqnet_width > seq_length:
            raise UserError(
                f"--seqnet_width {seqnet_width}: wider than the {seq_length} frames of --seq_length. Expected at most "
                f"{seq_length}"
            )
        self.descriptors_dim = seqnet_dim or frame_dim
        self.conv = nn.Conv1d(frame_dim, self.descriptors_dim, kernel_size=seqnet_width)

    def forward(self, frames: Tensor) -> Tensor:
        with full_precision(frames):
            return l2_normalise(self.conv(frames.float().transpose(1, 2)).mean(dim=2))
