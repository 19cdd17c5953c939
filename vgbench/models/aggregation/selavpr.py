"""SelaVPR (Lu et al., 2024): GeM, and a branch of dense local features by which candidates are re-ranked."""

from __future__ import annotations

from torch import Tensor

from vgbench.models.aggregation.gem import GeM
from vgbench.models.aggregation.local_branch import DIMENSIONS, LocalBranch, cell_positions
from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class SelaVPR(Aggregation):
    """[B,C,h,w] to [B,C], L2-normalised; `local_features` gives what re-ranking compares."""

    reranked_by = "selavpr"
    token_dim = DIMENSIONS
    pair_parts = ("local",)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.gem = GeM(in_channels)
        self.local = LocalBranch(in_channels)
        self.descriptors_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        return l2_normalise(self.gem(l2_normalise(features)))

    def local_features(self, features: Tensor) -> Tensor:
        """Return unit local features float32 [B,128,4h-3,4w-3] of a map [B,C,h,w]."""
        found: Tensor = self.local(features)
        return found

    def pair_tokens(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return all local features of a map [B,C,h,w], in rows, as `LocalTokens.pair_tokens`."""
        places = cell_positions(*features.shape[2:])
        return [(places, one.T) for one in self.local_features(features).flatten(2)]
