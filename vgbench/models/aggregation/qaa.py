"""Query-based adaptive aggregation (Xiao, Zhou and Loianno, 2026): features asked by queries, against a codebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.aggregation.salad import SINKHORN_ITERATIONS, transport
from vgbench.models.base import Aggregation
from vgbench.models.layers import full_precision, l2_normalise

SCORE_NORMS = ("none", "softmax", "ot")


class Queries(nn.Module):
    """Learned queries [1,Q,C] that have met one another: they do not depend on any image."""

    def __init__(self, dim: int, count: int, heads: int, norm: bool) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, count, dim))
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm_q = nn.LayerNorm(dim)
        self.norm = norm

    def forward(self) -> Tensor:
        met: Tensor = self.queries + self.self_attn(self.queries, self.queries, self.queries, need_weights=False)[0]
        return self.norm_q(met) if self.norm else met


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
    """(map [B,C,h,w], token [B,C]) to [B,token_dim + cluster_dim*num_clusters], L2-normalised.

    The descriptor is the similarity of two sets of queries: of those that asked the image with those of a codebook.
    """

    takes = "map+token"

    def __init__(
        self,
        in_channels: int,
        *,
        num_clusters: int = 64,
        cluster_dim: int = 128,
        token_dim: int = 0,
        num_queries: int = 256,
        feature_nheads: int = 16,
        score_nheads: int = 16,
        self_attn_out_norm: bool = True,
        out_norm: bool = False,
        score_norm: str = "none",
        intra_norm: bool = True,
    ) -> None:
        """Defaults are those of the released networks, here of 8192 dimensions.

        Args:
            in_channels: C.
            num_clusters: values that a query's answer is projected to.
            cluster_dim: of the codebook.
            token_dim: of the class token's part; 0: it has none.
            num_queries: of the codebook, and of the image.
            feature_nheads, score_nheads: attention heads of the codebook, and of the image's queries.
            self_attn_out_norm, out_norm: whether queries and answers go through a LayerNorm.
            score_norm: "none" (the similarity itself), "softmax", or "ot", optimal transport as in SALAD.
            intra_norm: whether each cluster is L2-normalised.

        Raises:
            UserError: heads that do not divide the channels, or an unknown `score_norm`.
        """
        if score_norm not in SCORE_NORMS:
            raise UserError(f"score_norm {score_norm}: not known. Expected one of {', '.join(SCORE_NORMS)}")
        for heads, channels in ((feature_nheads, cluster_dim), (score_nheads, in_channels)):
            if heads < 1 or channels % heads:
                raise UserError(
                    f"--aggregation qaa: {heads} attention heads for {channels} channels. Expected a divisor"
                )
        super().__init__()
        self.num_clusters, self.score_norm, self.intra_norm = num_clusters, score_norm, intra_norm
        self.token_features: nn.Module | None = None
        if token_dim:
            self.token_features = nn.Sequential(nn.Linear(in_channels, 512), nn.ReLU(), nn.Linear(512, token_dim))
        self.queries_feature = Queries(cluster_dim, num_queries, feature_nheads, self_attn_out_norm)
        self.queries_score = Queries(in_channels, num_queries, score_nheads, self_attn_out_norm)
        self.score = Answers(in_channels, num_clusters, score_nheads, out_norm)
        self.dust_bin = nn.Parameter(torch.tensor(1.0), requires_grad=score_norm == "ot")
        self.descriptors_dim = token_dim + cluster_dim * num_clusters
        # What is not applied, a file may lack.
        unused = () if score_norm == "ot" else ("dust_bin",)
        self.score.norm2_out.requires_grad_(out_norm)
        self.spare_keys = unused if out_norm else (*unused, "score.norm2_out.weight", "score.norm2_out.bias")

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        features, token = inputs
        asked = self.queries_score().expand(features.shape[0], -1, -1)
        scores = self.score(features.flatten(2).transpose(1, 2), asked)  # [B,K,Q]
        codebook = self.queries_feature()[0]  # [Q,D]
        with full_precision(features):
            similarity = torch.matmul(self._normed(scores.float()), codebook.float()).transpose(1, 2)  # [B,D,K]
            clusters = (F.normalize(similarity, dim=1) if self.intra_norm else similarity).flatten(1)
        if self.token_features is not None:
            clusters = torch.cat([l2_normalise(self.token_features(token)), clusters], dim=1)
        return l2_normalise(clusters)

    def _normed(self, scores: Tensor) -> Tensor:
        if self.score_norm == "none":
            return scores
        if self.score_norm == "softmax":
            return scores.softmax(1)
        return transport(scores, self.dust_bin.float(), SINKHORN_ITERATIONS)
