"""SuperVLAD (Lu et al., 2024): NetVLAD without centres, a few clusters and ghosts, optionally mixed over a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.aggregation.netvlad import SoftlyAssigned
from vgbench.models.layers import full_precision, l2_normalise

# The cross-image encoder of the paper.
ENCODER_HEADS, ENCODER_WIDTH, ENCODER_LAYERS, ENCODER_DROPOUT = 16, 2048, 2, 0.1


class SuperVLAD(SoftlyAssigned):
    """[B,C,h,w] to [B,supervlad_clusters*C], L2-normalised: sums of the local features by soft assignment.

    Ghost clusters take what is none of the others', and are left out. With `crossimage_encoder`, images of a batch
    attend to one another, cluster by cluster; a descriptor then depends on its batch.
    """

    mixed_batch = 8  # as its authors test theirs

    def __init__(
        self,
        in_channels: int,
        *,
        supervlad_clusters: int = 4,
        ghost_clusters: int = 1,
        crossimage_encoder: bool = False,
    ) -> None:
        """Defaults are the paper's for DINOv2-B: 3072 dimensions; its 1-cluster VLAD has 1 and 2.

        Raises:
            UserError: fewer than one cluster; channels that the encoder's 16 heads do not divide.
        """
        super().__init__()
        if supervlad_clusters < 1 or ghost_clusters < 0:
            raise UserError(
                f"--aggregation supervlad: {supervlad_clusters} clusters and {ghost_clusters} ghosts. Expected 1 or "
                "more clusters, and no negative number of ghosts"
            )
        self.clusters = supervlad_clusters
        self.conv = nn.Conv2d(in_channels, supervlad_clusters + ghost_clusters, kernel_size=1, bias=False)
        self.mixes_batch = crossimage_encoder
        self.encoder: nn.Module | None = None
        if crossimage_encoder:
            if in_channels % ENCODER_HEADS:
                raise UserError(
                    f"--aggregation supervlad crossimage_encoder: {in_channels} channels. Expected a multiple of "
                    f"{ENCODER_HEADS}, its attention heads"
                )
            layer = nn.TransformerEncoderLayer(
                in_channels, ENCODER_HEADS, ENCODER_WIDTH, ENCODER_DROPOUT, activation="gelu", batch_first=False
            )
            self.encoder = nn.TransformerEncoder(layer, ENCODER_LAYERS, enable_nested_tensor=False)
        self.descriptors_dim = supervlad_clusters * in_channels

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            x = l2_normalise(features).flatten(2)  # [B,C,P]
            shares = torch.matmul(self.conv.weight.flatten(1).float(), x).softmax(dim=1)
            sums = torch.matmul(shares[:, : self.clusters], x.transpose(1, 2))  # [B,K,C]
            rows = l2_normalise(F.normalize(sums, dim=2).flatten(1)).view_as(sums)
        if self.encoder is not None:
            rows = self.encoder(rows)  # the images are its sequence, the clusters its batch
        return l2_normalise(rows.flatten(1))
