"""Query-based adaptive aggregation (Xiao, Zhou and Loianno, 2026): features asked by queries, against a codebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.base import Aggregation
from vgbench.models.layers import check_heads, full_precision, l2_normalise


class Queries(nn.Module):
    """Learned queries [1,Q,C] that have met one another: they do not depend on any image."""

    def __init__(self, dim: int, count: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, count, dim))
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm_q = nn.LayerNorm(dim)

    def forward(self) -> Tensor:
        met: Tensor = self.norm_q(
            self.queries + self.self_attn(self.queries, self.queries, self.queries, need_weights=False)[0]
        )
        return met


class Answers(nn.Module):
    """What queries [B,Q,C] find in local features [B,P,C], projected: [B,K,Q]."""

    def __init__(self, dim: int, outputs: int, heads: int, norm: bool) -> None:
        super().__init__()
        self.cross_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm_out = nn.LayerNorm(dim)
        self.conv = nn.Conv1d(dim, outputs, 1)
        self.norm2_out = nn.LayerNorm(outputs)  # in every released file, whether it is applied or not
        self.norm = norm

    def forward(self, features: Tensor, queries: Tensor) -> Tensor:
        found = self.norm_out(self.cross_attn(queries, features, features, need_weights=False)[0])
        projected: Tensor = self.conv(found.transpose(1, 2))
        return self.norm2_out(projected.transpose(1, 2)).transpose(1, 2) if self.norm else projected


class QAA(Aggregation):
    """[B,C,h,w] to [B,cluster_dim*num_clusters], L2-normalised.

    The descriptor is the similarity of two sets of queries: of those that asked the image with those of a codebook.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_clusters: int = 64,
        cluster_dim: int = 128,
        num_queries: int = 256,
        feature_nheads: int = 16,
        score_nheads: int = 16,
        out_norm: bool = False,
    ) -> None:
        """Defaults are those of the released networks, here of 8192 dimensions.

        Args:
            in_channels: C.
            num_clusters: values that a query's answer is projected to.
            cluster_dim: of the codebook.
            num_queries: of the codebook, and of the image.
            feature_nheads, score_nheads: attention heads of the codebook, and of the image's queries.
            out_norm: whether answers go through a LayerNorm once they are projected.

        Raises:
            UserError: heads that do not divide the channels.
        """
        for heads, channels in ((feature_nheads, cluster_dim), (score_nheads, in_channels)):
            check_heads("qaa", heads, channels)
        super().__init__()
        self.queries_feature = Queries(cluster_dim, num_queries, feature_nheads)
        self.queries_score = Queries(in_channels, num_queries, score_nheads)
        self.score = Answers(in_channels, num_clusters, score_nheads, out_norm)
        self.dust_bin = nn.Parameter(torch.tensor(1.0), requires_grad=False)  # in every file, of an optimal transport
        self.descriptors_dim = cluster_dim * num_clusters
        # What is not applied, a file may lack.
        unused = ("dust_bin",)
        self.score.norm2_out.requires_grad_(out_norm)
        self.spare_keys = unused if out_norm else (*unused, "score.norm2_out.weight", "score.norm2_out.bias")

    def forward(self, features: Tensor) -> Tensor:
        asked = self.queries_score().expand(features.shape[0], -1, -1)
        scores = self.score(features.flatten(2).transpose(1, 2), asked)  # [B,K,Q]
        codebook = self.queries_feature()[0]  # [Q,D]
        with full_precision(features):
            similarity = torch.matmul(scores.float(), codebook.float()).transpose(1, 2)  # [B,D,K]
            return l2_normalise(F.normalize(similarity, dim=1).flatten(1))
