"""R2Former (Zhu et al., 2023): a descriptor of two tokens, and a transformer on what two images' patches share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.backbones.deit import EARLIER, PATCH
from vgbench.models.backbones.dinov2 import MLP, Attention
from vgbench.models.base import Aggregation
from vgbench.models.layers import full_precision, l2_normalise

LOCAL_DIM, MOST_TOKENS = 128, 500
WIDTH, HEADS, NORM_EPS = 32, 4, 1e-6
PARTNERS = 5  # of a patch, those of the other image that it resembles most
PAIR_LAYERS, LAYERS = 2, 6
PERIOD = 10_000.0
PLACE = 3  # numbers of a token that say where it is and how much the network looks at it


class R2Former(Aggregation):
    """(earlier map [B,C,h,w], tokens [B,2,C], attention [B,hw]) to [B,out_dim], L2-normalised.

    What is kept of an image are its 500 patches with the most attention: x and y as shares of its long side, the
    attention as a share of the largest, and 128 numbers.
    """

    takes = EARLIER
    reranked_by = "r2former"
    token_dim = PLACE + LOCAL_DIM
    pair_parts = ("local_head", "reranker")

    def __init__(self, in_channels: int, *, out_dim: int = 256, num_local: int = MOST_TOKENS) -> None:
        """Build it.

        Args:
            in_channels: C.
            out_dim: of the descriptor.
            num_local: patches that are kept, at most.
        """
        super().__init__()
        self.head, self.head_dist = nn.Linear(in_channels, out_dim), nn.Linear(in_channels, out_dim)
        self.local_head = nn.Linear(in_channels, LOCAL_DIM)
        self.reranker = Correlations()
        self.descriptors_dim, self.num_local = out_dim, num_local

    def forward(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        tokens = inputs[1]
        return l2_normalise((self.head(tokens[:, 0]) + self.head_dist(tokens[:, 1])) / 2)

    def pair_tokens(self, inputs: tuple[Tensor, Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the patches with the most attention, most first, as `LocalTokens.pair_tokens`."""
        features, _, attention = inputs
        height, width = features.shape[2:]
        best = attention.topk(min(self.num_local, height * width), dim=1)
        patches = features.flatten(2).transpose(1, 2)
        chosen = patches.gather(1, best.indices.unsqueeze(2).expand(-1, -1, patches.shape[2]))
        local = self.local_head(chosen).float()
        pixels = torch.stack([best.indices % width, best.indices // width], dim=2) * PATCH + PATCH / 2
        share = (best.values / best.values[:, :1]).unsqueeze(2)
        tokens = torch.cat([pixels / (max(height, width) * PATCH), share, local], dim=2)
        places = pixels / torch.tensor([width * PATCH, height * PATCH], device=pixels.device)
        return list(zip(places, tokens, strict=True))

    def pair_scores(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Return the probability float32 [B] that pairs of tokens [B,T,131] and [B,S,131] are of one place.

        Which of the two is the query matters a little.
        """
        return self.pair_logits(queries, candidates).sigmoid()

    def pair_logits(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Return the logit of that probability, float32 [B]: the difference of the logits of the two classes."""
        with full_precision(queries):
            logits: Tensor = self.reranker(queries.float(), candidates.float())
            return logits[:, 1] - logits[:, 0]


class Correlations(nn.Module):
    """Pairs of patches to logits [B,2] of "another place" and "the same".

    Each patch of either image has its 5 most similar ones of the other. Both places, both attentions and the similarity
    of each such pair make a vector; two layers join a patch's five, six layers all patches of both images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.cls_token_2 = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, WIDTH), std=0.02)) for _ in range(2)
        )
        self.pair_head, self.pair_head_2 = nn.Linear(2 * PLACE + 1, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.blocks_2 = nn.ModuleList([Layer() for _ in range(PAIR_LAYERS)])
        self.blocks = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.decoder_norm = nn.LayerNorm(WIDTH, eps=NORM_EPS)
        self.decoder_pred = nn.Linear(WIDTH, 2)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the logits of pairs of tokens [B,T,131], of queries, and [B,S,131], of candidates."""
        places = [tokens[:, :, :PLACE].clamp(0, 1) for tokens in (first, second)]
        units = [F.normalize(tokens[:, :, PLACE:], dim=2) for tokens in (first, second)]
        similarity = torch.matmul(units[0], units[1].transpose(1, 2))
        own, best, values = partners(places[0], places[1], similarity)
        theirs, found, others = partners(places[1], places[0], similarity.transpose(1, 2))
        # What is of the query comes first in both, as in its authors' code, with which the weights were trained.
        pairs = torch.cat([torch.cat([own, best, values], dim=3), torch.cat([found, theirs, others], dim=3)], dim=1)
        batch, count = pairs.shape[:2]
        x = self.pair_head(pairs) + waves(pairs[..., PLACE : PLACE + 2])
        x = self.pair_head_2(self.joined(x.flatten(0, 1), self.blocks_2, self.cls_token_2))
        x = x.view(batch, count, WIDTH) + waves(pairs[:, :, 0, :2])
        logits: Tensor = self.decoder_pred(self.joined(x, self.blocks, self.cls_token))
        return logits

    def joined(self, x: Tensor, layers: nn.ModuleList, token: Tensor) -> Tensor:
        """Return what a token [1,1,C] before others [N,T,C] becomes: [N,C]."""
        x = torch.cat([token.expand(len(x), -1, -1), x], dim=1)
        for layer in layers:
            x = layer(x)
        first: Tensor = self.decoder_norm(x[:, 0])
        return first


class Layer(nn.Module):
    """A transformer layer; tokens [B,N,32] to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=NORM_EPS) for _ in range(2))
        self.attn, self.mlp = Attention(WIDTH, HEADS), MLP(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


def partners(own: Tensor, others: Tensor, similarity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each patch k times, those k of the other image that it resembles most, and how much, [B,T,k,...].

    Args:
        own: float [B,T,3], x, y and attention.
        others: float [B,S,3], those of the other image.
        similarity: float [B,T,S].
    """
    best = similarity.topk(min(PARTNERS, similarity.shape[2]), dim=2)
    rows = best.indices.flatten(1).unsqueeze(2).expand(-1, -1, PLACE)
    chosen = others.gather(1, rows).view(*best.indices.shape, PLACE)
    return own.unsqueeze(2).expand_as(chosen), chosen, best.values.unsqueeze(3)


def waves(places: Tensor) -> Tensor:
    """Return 32 sines and cosines of x and y [...,2]: of each 8 sines and 8 cosines, slower and slower."""
    count = WIDTH // 4
    frequencies = PERIOD ** -(torch.arange(count, device=places.device, dtype=places.dtype) / count)
    angles = places.unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
