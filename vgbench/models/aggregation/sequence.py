"""Descriptors of transformers that are part of the sequence already: the class token, and the pooled sequence."""

from __future__ import annotations

from torch import Tensor

from vgbench.models.base import Aggregation


class ClassToken(Aggregation):
    """The first token, which is the class token where there is one (Dosovitskiy et al., 2021): [B,N,C] to [B,C]."""

    takes = "tokens"
    needs = "class_token"

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.descriptors_dim = in_channels

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class SeqPool(Aggregation):
    """The sequence as its backbone pools it, by learned attention (Hassani et al., 2021): [B,C] to the same."""

    takes = "vector"
    needs = "pool_sequence"

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.descriptors_dim = in_channels

    def forward(self, pooled: Tensor) -> Tensor:
        return pooled
