"""EDTformer (Jin et al., 2025): learned queries decode the local features, layer after layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench.models.base import Aggregation
from vgbench.models.layers import check_heads, l2_normalise

DROPOUT = 0.1


class DecoderLayer(nn.Module):
    """Queries [B,Q,C] attend to one another and then to the features [B,N,C]; there is no MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, dropout=DROPOUT, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(dim, heads, dropout=DROPOUT, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout1, self.dropout2 = nn.Dropout(DROPOUT), nn.Dropout(DROPOUT)

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        met = self.self_attn(queries, queries, queries, need_weights=False)[0]
        queries = self.norm1(queries + self.dropout1(met))
        seen = self.multihead_attn(queries, features, features, need_weights=False)[0]
        answers: Tensor = self.norm2(queries + self.dropout2(seen))
        return answers


class Decoder(nn.Module):
    """Decoder layers in a row."""

    def __init__(self, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer(dim, heads) for _ in range(layers)])

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        for layer in self.layers:
            queries = layer(queries, features)
        return queries


class EDTformer(Aggregation):
    """Tokens [B,N,C], the class token among them, to [B,proj_channels*row_dim], L2-normalised."""

    takes = "tokens"
    needs = "class_token"

    def __init__(
        self,
        in_channels: int,
        *,
        num_queries: int = 64,
        num_layers: int = 2,
        proj_channels: int = 256,
        row_dim: int = 16,
        nhead: int = 16,
    ) -> None:
        """Defaults are the paper's (4096 dimensions).

        Raises:
            UserError: channels that the attention heads do not divide.
        """
        check_heads("edtformer", nhead, in_channels)
        super().__init__()
        self.fc = nn.Linear(in_channels, in_channels)
        self.decoder = Decoder(in_channels, num_layers, nhead)
        self.queries = nn.Parameter(torch.empty(1, num_queries, in_channels))
        nn.init.normal_(self.queries, std=1e-6)
        self.channel_proj = nn.Linear(in_channels, proj_channels)
        self.row_proj = nn.Linear(num_queries, row_dim)
        self.descriptors_dim = proj_channels * row_dim

    def forward(self, tokens: Tensor) -> Tensor:
        queries = self.queries.expand(tokens.shape[0], -1, -1)
        answers = self.channel_proj(self.decoder(queries, self.fc(tokens)))  # [B,Q,P]
        return l2_normalise(self.row_proj(answers.transpose(1, 2)).flatten(1))
