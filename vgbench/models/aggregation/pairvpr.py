"""Pair-VPR (Hausler and Moghadam, 2025): a class token as descriptor, and a decoder that looks at two images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.backbones.dinov2 import MLP
from vgbench.models.backbones.dinov2 import Attention as SelfAttention
from vgbench.models.backbones.tokens import resized_positions
from vgbench.models.base import Aggregation
from vgbench.models.layers import check_heads, l2_normalise

SIDE = 23  # positions are of the 23x23 patches of an image of 322x322
NORM_EPS = 1e-6
MLP_RATIO = 4
HIDDEN = 512  # of what makes the logit
PERIOD = 10_000.0


class PairVPR(Aggregation):
    """(map [B,C,h,w], token [B,C]) to [B,out_dim], L2-normalised; `pair_scores` says whether two are of one place.

    What is kept of an image is what the decoder takes: its patches, projected, with their positions.
    """

    takes = "map+token"
    reranked_by = "pairvpr"
    pair_parts = ("decoder_embed", "decoder_clstoken", "dec_blocks", "dec_norm", "classvprmodule")

    def __init__(
        self, in_channels: int, *, out_dim: int = 512, decoder_dim: int = 768, decoder_depth: int = 12,
        decoder_heads: int = 12,
    ) -> None:  # fmt: skip
        """Build it.

        Args:
            in_channels: C.
            out_dim: of the descriptor.
            decoder_dim, decoder_depth, decoder_heads: channels, layers and attention heads of the decoder.

        Raises:
            UserError: heads that do not divide the channels.
        """
        super().__init__()
        check_heads("pairvpr", decoder_heads, decoder_dim)
        self.globalizer = nn.Sequential(nn.Linear(in_channels, out_dim))
        self.decoder_embed = nn.Linear(in_channels, decoder_dim)
        self.decoder_clstoken = nn.Parameter(nn.init.normal_(torch.empty(1, 1, decoder_dim), std=1e-6))
        self.dec_blocks = nn.ModuleList([DecoderLayer(decoder_dim, decoder_heads) for _ in range(decoder_depth)])
        self.dec_norm = nn.LayerNorm(decoder_dim, eps=NORM_EPS)
        self.classvprmodule = nn.Sequential(nn.Linear(decoder_dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        self.register_buffer("positions", sines(decoder_dim, SIDE), persistent=False)
        self.descriptors_dim, self.token_dim = out_dim, decoder_dim

    positions: Tensor

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        return l2_normalise(self.globalizer(inputs[1]))

    def pair_tokens(self, inputs: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the patches as the decoder takes them, in rows, as `LocalTokens.pair_tokens`.

        The positions of another grid than 23x23 are interpolated bicubically.
        """
        features = inputs[0]
        height, width = features.shape[2:]
        placed = resized_positions(self.positions, height, width, antialias=False)
        tokens = self.decoder_embed(features.flatten(2).transpose(1, 2)) + placed
        y, x = (torch.arange(n, device=tokens.device).add(0.5).div(n) for n in (height, width))
        centres = torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)
        return [(centres, one) for one in tokens]

    def pair_scores(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Return the sum of the logits of both orders of each pair of tokens [B,T,C]: float32 [B]."""
        return self.pair_logits(queries, candidates) + self.pair_logits(candidates, queries)

    def pair_logits(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the same-place logit float32 [B] of pairs in this order: tokens [B,T,C] that look at others [B,S,C].

        A class token goes with the first image's; every layer looks at them, and then at the second image's.
        """
        tokens = torch.cat([self.decoder_clstoken.expand(len(first), -1, -1).to(first.dtype), first], dim=1)
        for block in self.dec_blocks:
            tokens = block(tokens, second)
        logits: Tensor = self.classvprmodule(self.dec_norm(tokens[:, 0])).float()
        return logits.squeeze(1)


class DecoderLayer(nn.Module):
    """Attention among an image's tokens [B,N,C], then to another image's [B,M,C], then an MLP (CroCo, 2022)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3, self.norm_y = (nn.LayerNorm(dim, eps=NORM_EPS) for _ in range(4))
        self.attn = SelfAttention(dim, heads)
        self.cross_attn = CrossAttention(dim, heads)
        self.mlp = MLP(dim)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        x = x + self.cross_attn(self.norm2(x), self.norm_y(other))
        y: Tensor = x + self.mlp(self.norm3(x))
        return y


class CrossAttention(nn.Module):
    """Multi-head attention of tokens [B,N,C] to others [B,M,C]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq, self.projk, self.projv, self.proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        q, k, v = (self._heads(part) for part in (self.projq(x), self.projk(other), self.projv(other)))
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return mixed

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def sines(dim: int, side: int) -> Tensor:
    """Return positions of a grid of `side` x `side` cells, float32 [1,side*side,dim], rows first.

    A half of the channels is of x and the other of y, each sines and then cosines of the cell's number over 10000^(i/n)
    for i = 0 to n - 1, n a quarter of the channels (Vaswani et al., 2017; MAE, 2022).
    """
    cells = torch.arange(side, dtype=torch.float64)
    frequencies = PERIOD ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angles = cells[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    both = torch.cat([waves.repeat(side, 1), waves.repeat_interleave(side, dim=0)], dim=1)
    return both.float().unsqueeze(0)
