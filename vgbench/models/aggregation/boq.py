"""Bag-of-Queries (Ali-bey, Chaib-draa and Giguere, 2024): learned queries ask the local features, layer after layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise

HEAD_DIM = 64


class QueryBlock(nn.Module):
    """Encode the local features [B,P,D] and let the block's own queries attend to them; both are returned."""

    def __init__(self, dim: int, queries: int) -> None:
        super().__init__()
        heads = dim // HEAD_DIM
        self.encoder = nn.TransformerEncoderLayer(dim, heads, dim_feedforward=4 * dim, dropout=0.0, batch_first=True)
        self.queries = nn.Parameter(torch.randn(1, queries, dim))
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm_q = nn.LayerNorm(dim)
        self.cross_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(features)
        # The queries do not depend on the image, so they meet one another once a batch, not once an image.
        queries = self.norm_q(self.queries + self.self_attn(self.queries, self.queries, self.queries)[0])
        queries = queries.expand(features.shape[0], -1, -1)
        answers = self.cross_attn(queries, features, features, need_weights=False)[0]
        return features, self.norm_out(answers)


class BoQ(Aggregation):
    """[B,C,H,W] to [B,proj_channels*row_dim], L2-normalised."""

    def __init__(
        self,
        in_channels: int,
        *,
        proj_channels: int = 512,
        num_queries: int = 32,
        num_layers: int = 2,
        row_dim: int = 32,
    ) -> None:
        """Defaults are the paper's for ResNet-50 (16384 dimensions); with DINOv2 it has 384, 64, 2 and 32.

        Raises:
            UserError: `proj_channels` is not a multiple of 64, the width of an attention head.
        """
        if proj_channels % HEAD_DIM or proj_channels < HEAD_DIM:
            raise UserError(f"proj_channels {proj_channels}: attention heads are {HEAD_DIM} wide. Expected a multiple")
        super().__init__()
        self.proj_c = nn.Conv2d(in_channels, proj_channels, kernel_size=3, padding=1)
        self.norm_input = nn.LayerNorm(proj_channels)
        self.boqs = nn.ModuleList([QueryBlock(proj_channels, num_queries) for _ in range(num_layers)])
        self.fc = nn.Linear(num_layers * num_queries, row_dim)
        self.descriptors_dim = proj_channels * row_dim

    def forward(self, features: Tensor) -> Tensor:
        x = self.norm_input(self.proj_c(features).flatten(2).transpose(1, 2))
        answers = []
        for block in self.boqs:
            x, answer = block(x)
            answers.append(answer)
        rows = self.fc(torch.cat(answers, dim=1).transpose(1, 2))  # [B,D,row_dim]
        return l2_normalise(rows.flatten(1))
