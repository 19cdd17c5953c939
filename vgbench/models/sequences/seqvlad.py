"""SeqVLAD: one NetVLAD over the local features of all frames.

Mereu, Trivigno, Berton, Masone and Caputo, Learning sequential descriptors for sequence-based visual place recognition,
RA-L 2022.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models.aggregation.netvlad import NetVLAD
from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise
from vgbench.models.sequences.base import SequenceAggregation


class SeqVLAD(SequenceAggregation):
    """The sums of residuals of each frame, [B,L,K*C], to a sequence's descriptor [B,K*C], L2-normalised.

    A local feature is assigned to clusters by itself alone, so that the residuals of all frames together are the sum of
    the frames' sums: a frame is kept as K*C numbers and not as a map, and goes through the network once, however many
    sequences it is in.
    """

    def __init__(self, frame_dim: int, seq_length: int) -> None:
        super().__init__()
        self.clusters = 1
        self.descriptors_dim = frame_dim

    def bind(self, aggregation: Aggregation) -> None:
        """Let NetVLAD hand on its sums as they are; raises UserError for another aggregation."""
        if type(aggregation) is not NetVLAD:
            raise UserError(
                "--seq_aggregation seqvlad: is NetVLAD over the local features of all frames. Expected --aggregation "
                "netvlad beside it, without --fc_output_dim"
            )
        aggregation.normalised = False
        self.clusters = len(aggregation.centroids)

    def forward(self, frames: Tensor) -> Tensor:
        sums = frames.float().sum(dim=1).reshape(len(frames), self.clusters, -1)
        return l2_normalise(F.normalize(sums, dim=2).flatten(1))
