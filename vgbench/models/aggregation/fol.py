"""FoL (Wang et al., 2025): SALAD whose dustbin takes what the class token does not look at, and local features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.aggregation.local_branch import DIMENSIONS, HIDDEN, cell_positions
from vgbench.models.aggregation.salad import SALAD
from vgbench.models.layers import l2_normalise

# Attention below this counts as none.
FAINTEST = 0.01
# Cells of the map whose local features are compared.
RELIABLE = 225


class FoL(SALAD):
    """(map [B,C,h,w], token [B,C], attention [B,hw]) to [B,token_dim + cluster_dim*num_clusters], L2-normalised.

    Options and their defaults are SALAD's, as in the paper.
    """

    takes = "map+token+attention"
    name = "fol"
    reranked_by = "fol"
    token_dim = DIMENSIONS
    pair_parts = ("upconv", "upconv2")

    def add_own(self, in_channels: int) -> None:
        """Make the branch of local features; the dustbin learns nothing."""
        self.upconv = nn.ConvTranspose2d(in_channels, HIDDEN, 3, stride=2, padding=1)
        self.upconv2 = nn.ConvTranspose2d(HIDDEN, DIMENSIONS, 3, stride=2, padding=1)

    def dust_bin_scores(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return what the class token does not look at, float32 [B,1,P]."""
        attention = inputs[2]
        return (1 - torch.where(attention >= FAINTEST, attention, 0).float()).unsqueeze(1)

    def local_features(self, features: Tensor) -> Tensor:
        """Return unit local features float32 [B,128,4h-3,4w-3] of a map [B,C,h,w]."""
        return l2_normalise(self.upconv2(F.relu(self.upconv(features))))

    def pair_tokens(self, inputs: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        """Return the local features in the reliable areas, in rows, as `LocalTokens.pair_tokens`.

        Those are the cells of the map whose local features go to clusters the most, 225 of them; a local feature
        belongs to the cell in which it falls where the map is stretched to the grid of local features.
        """
        features = inputs[0]
        height, width = features.shape[2:]
        weights = self.shares(inputs).sum(dim=1)  # [B,P]
        best = weights.topk(min(RELIABLE, weights.shape[1]), dim=1).indices
        reliable = torch.zeros_like(weights).scatter_(1, best, 1.0).view(-1, 1, height, width)
        chosen = F.interpolate(reliable, size=(4 * height - 3, 4 * width - 3)).flatten(1) > 0
        places = cell_positions(height, width).to(features.device)
        found = self.local_features(features).flatten(2).transpose(1, 2)
        return [(places[here], one[here]) for here, one in zip(chosen, found, strict=True)]
