"""The newest aggregations: each formula again, naively and in float64, on random features."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models import build_aggregation
from vgbench.models.aggregation.cricavpr import regions
from vgbench.models.aggregation.supervlad import SuperVLAD
from vgbench.models.aggregation.vlad_buff import VLADBuFF

C = 32


def drawn(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    layer = build_aggregation(name, C, **options).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    for key, parameter in layer.named_parameters():
        if key.endswith("gem.p"):
            nn.init.constant_(parameter, 2.5)
        if key.endswith("ab_params"):
            parameter.data.copy_(torch.tensor([6.0, 5.0, 0.8]))
    return layer


def features(height: int, width: int, batch: int = 3) -> Tensor:
    return torch.randn(batch, C, height, width, generator=torch.Generator().manual_seed(height))


def attend(attention: nn.MultiheadAttention, asking: Tensor, asked: Tensor) -> Tensor:
    """Multi-head attention by its definition (Vaswani et al., 2017): [B,Q,C] of [B,Q,C] and [B,N,C]."""
    weight, bias = attention.in_proj_weight.double(), attention.in_proj_bias.double()
    q, k, v = (x @ w.T + b for x, w, b in zip((asking, asked, asked), weight.chunk(3), bias.chunk(3), strict=True))
    heads = []
    for part in range(attention.num_heads):
        step = q.shape[-1] // attention.num_heads
        one = slice(part * step, (part + 1) * step)
        heads.append(torch.softmax(q[..., one] @ k[..., one].transpose(1, 2) / step**0.5, dim=-1) @ v[..., one])
    return torch.cat(heads, dim=-1) @ attention.out_proj.weight.double().T + attention.out_proj.bias.double()


def normed(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], layer.weight.double(), layer.bias.double(), layer.eps)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.double(), layer.bias.double())


def super_vlad(layer: Any, x: Tensor) -> Tensor:
    rows = []
    for image in F.normalize(x.double(), dim=1).flatten(2):
        shares = torch.softmax(layer.conv.weight.double().flatten(1) @ image, dim=0)
        sums = [sum(share[p] * image[:, p] for p in range(image.shape[1])) for share in shares[: layer.clusters]]
        rows.append(F.normalize(F.normalize(torch.stack(sums), dim=1).flatten(), dim=0))
    return torch.stack(rows)


def edtformer(layer: Any, x: Tensor) -> Tensor:
    tokens = linear(layer.fc, x.double())
    queries = layer.queries.double().expand(len(x), -1, -1)
    for step in layer.decoder.layers:
        queries = normed(step.norm1, queries + attend(step.self_attn, queries, queries))
        queries = normed(step.norm2, queries + attend(step.multihead_attn, queries, tokens))
    rows = linear(layer.row_proj, linear(layer.channel_proj, queries).transpose(1, 2))
    return F.normalize(rows.flatten(1), dim=1)


def qaa(layer: Any, inputs: Tensor) -> Tensor:
    def queries(part: Any) -> Tensor:
        own = part.queries.double()
        return normed(part.norm_q, own + attend(part.self_attn, own, own))

    local = inputs.double().flatten(2).transpose(1, 2)
    asked = queries(layer.queries_score).expand(len(local), -1, -1)
    found = normed(layer.score.norm_out, attend(layer.score.cross_attn, asked, local))
    scores = found @ layer.score.conv.weight.double()[:, :, 0].T + layer.score.conv.bias.double()  # [B,Q,K]
    similarity = torch.einsum("qd,bqk->bdk", queries(layer.queries_feature)[0], scores)
    return F.normalize(F.normalize(similarity, dim=1).flatten(1), dim=1)


def vlad_buff(layer: Any, x: Tensor) -> Tensor:
    rows = []
    slope, offset, power = layer.ab_params.double()
    for image in F.normalize(x.double(), dim=1).flatten(2):
        local = F.normalize(layer.pca_rot.double() @ (image - layer.pca_mean.double()[:, None]), dim=0)  # [D,P]
        count = [
            sum(torch.sigmoid(offset - slope * (local[:, p] - other).square().sum()) for other in local.T) ** power
            for p in range(local.shape[1])
        ]
        shares = torch.softmax(layer.conv.weight.double().flatten(1) @ local, dim=0) / torch.stack(count)
        residuals = [
            sum(share[p] * (local[:, p] - centre) for p in range(local.shape[1]))
            for share, centre in zip(shares, layer.centroids.double(), strict=True)
        ]
        rows.append(F.normalize(F.normalize(torch.stack(residuals), dim=1).flatten(), dim=0))
    return torch.stack(rows)


def gem(x: Tensor, p: Tensor) -> Tensor:
    return F.normalize(x, dim=1).clamp(min=1e-6).pow(p.double()).mean((2, 3)).pow(1 / p.double())


def selavpr(layer: Any, x: Tensor) -> Tensor:
    return F.normalize(gem(x.double(), layer.gem.p), dim=1)


def selavpr_pp(layer: Any, x: Tensor) -> Tensor:
    projected = linear(layer.linear1, x.double().permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    found = F.normalize(linear(layer.linear2, gem(projected, layer.gem.p)), dim=1)
    return torch.sign(found) if layer.hashing else found


def cricavpr(layer: Any, given: tuple[Tensor, Tensor]) -> Tensor:
    x, token = given
    parts = [token.double()]
    for grid in (2, 3):
        rows, columns = ([int(size * cell / grid + 0.5) for cell in range(grid + 1)] for size in x.shape[2:])
        for top, bottom in pairwise(rows):
            for left, right in pairwise(columns):
                unit = F.normalize(x[:, :, top:bottom, left:right].double(), dim=1).clamp(min=1e-6)
                parts.append(unit.pow(layer.gem.p.double()).mean((2, 3)).pow(1 / layer.gem.p.double()))
    mixed = []
    for part in parts:  # the images of the batch attend to one another
        for step in layer.encoder.layers:
            part = normed(step.norm1, part + attend(step.self_attn, part[None], part[None])[0])
            part = normed(step.norm2, part + linear(step.linear2, F.gelu(linear(step.linear1, part))))
        mixed.append(part)
    return F.normalize(torch.cat(mixed, dim=1), dim=1)


def tokens(height: int, width: int) -> Tensor:
    return features(height, width).flatten(2).transpose(1, 2)


def with_token(height: int, width: int) -> tuple[Tensor, Tensor]:
    return features(height, width), torch.randn(3, C, generator=torch.Generator().manual_seed(9))


QAA = {"num_clusters": 5, "cluster_dim": 6, "num_queries": 7, "feature_nheads": 2, "score_nheads": 4}
CASES: list[tuple[str, dict[str, Any], Callable[..., Any], Callable[..., Tensor]]] = [
    ("supervlad", {"supervlad_clusters": 3, "ghost_clusters": 2}, features, super_vlad),
    ("cricavpr", {}, with_token, cricavpr),
    ("edtformer", {"num_queries": 5, "proj_channels": 6, "row_dim": 3, "nhead": 4}, tokens, edtformer),
    ("qaa", QAA, features, qaa),
    ("vlad_buff", {"netvlad_clusters": 3, "nv_pca": 6}, features, vlad_buff),
    ("selavpr", {}, features, selavpr),
    ("selavpr_pp", {"feat_dim": 12}, features, selavpr_pp),
    ("selavpr_pp", {"feat_dim": 12, "hashing": True}, features, selavpr_pp),
]


@pytest.mark.parametrize("size", [(4, 5), (7, 3)])
@pytest.mark.parametrize(("name", "options", "inputs", "formula"), CASES)
@torch.no_grad()
def test_the_formula(
    name: str, options: dict, inputs: Callable[..., Any], formula: Callable[..., Tensor], size: tuple[int, int]
) -> None:
    layer, given = drawn(name, **options), inputs(*size)
    found, expected = layer(given), formula(layer, given)
    assert found.shape == (3, layer.descriptors_dim) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 2), (2, 7), (16, 16)])
@pytest.mark.parametrize("grid", [2, 3])
def test_regions_cover_a_map_and_none_is_empty(grid: int, size: tuple[int, int]) -> None:
    found = regions(torch.arange(size[0] * size[1]).view(1, 1, *size), grid)
    assert len(found) == grid**2 and all(region.numel() for region in found)
    assert set(torch.cat([region.flatten() for region in found]).tolist()) == set(range(size[0] * size[1]))


@torch.no_grad()
def test_a_batch_is_mixed_by_the_cross_image_encoder_and_only_by_it() -> None:
    alone = drawn("supervlad", supervlad_clusters=2)
    mixed = drawn("supervlad", supervlad_clusters=2, crossimage_encoder=True)
    assert (alone.mixes_batch, mixed.mixes_batch, mixed.mixed_batch) == (False, True, 8)
    given = features(5, 6)
    torch.testing.assert_close(alone(given)[:1], alone(given[:1]), atol=1e-6, rtol=1e-5)
    assert (mixed(given)[:1] - mixed(given[:1])).abs().max() > 1e-3
    encoder = mixed.encoder
    rows = super_vlad(mixed, given).float().view(3, 2, C)
    by_cluster = torch.stack(
        [encoder(rows[:, k : k + 1])[:, 0] for k in range(2)], dim=1
    )  # images attend, clusters not
    torch.testing.assert_close(mixed(given), F.normalize(by_cluster.flatten(1), dim=1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_dustbin_of_fol_takes_what_is_not_looked_at() -> None:
    layer = drawn("fol", num_clusters=4, cluster_dim=5, token_dim=6, mlp_dim=9)
    given, token = with_token(4, 5)
    attention = torch.rand(3, 20, generator=torch.Generator().manual_seed(2)) / 10
    attention[:, :4] = 0.005  # fainter than what counts
    shares = layer.shares((given, token, attention))
    bins = 1 - torch.where(attention >= 0.01, attention, 0).double()
    scores = torch.cat([layer.score(given).flatten(2).double(), bins[:, None]], dim=1)
    rows = torch.tensor([1.0, 1.0, 1.0, 1.0, 16.0], dtype=torch.float64)
    plan = scores.exp()
    for _ in range(3):  # Sinkhorn and Knopp (1967), as products
        plan = plan * (rows / plan.sum(2))[:, :, None]
        plan = plan / plan.sum(1, keepdim=True)
    torch.testing.assert_close(shares.double(), plan[:, :-1], atol=1e-6, rtol=1e-4)
    brighter = attention + (torch.arange(20) == 7) * 3.0
    assert (layer.shares((given, token, brighter))[:, :, 7].sum(1) > shares[:, :, 7].sum(1)).all()
    assert layer.local_features(given).shape == (3, 128, 13, 17)
    torch.testing.assert_close(layer.local_features(given).norm(dim=1), torch.ones(3, 13, 17))
    with pytest.raises(UserError, match="4 local features for 4 clusters"):
        layer((given[:, :, :2, :2], token, attention[:, :4]))


@torch.no_grad()
@pytest.mark.parametrize("name", ["salad", "fol"])
def test_optimal_transport_under_bf16(name: str) -> None:
    layer = drawn(name, num_clusters=4, cluster_dim=5, token_dim=6, mlp_dim=9).eval()
    attention = torch.rand(3, 20, generator=torch.Generator().manual_seed(2)) / 10
    inputs = (*with_token(4, 5), attention)[: 3 if name == "fol" else 2]
    with torch.autocast("cpu", torch.bfloat16):
        found = layer((*(one.bfloat16() for one in inputs[:2]), *inputs[2:]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(inputs), atol=0.02, rtol=0)


def test_a_code_learns_as_its_values_would() -> None:
    layer = drawn("selavpr_pp", feat_dim=8, hashing=True).train()
    plain = drawn("selavpr_pp", feat_dim=8).train()
    wanted = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    for head in (layer, plain):
        (head(features(3, 4)) * wanted).sum().backward()
    assert set(layer(features(3, 4)).detach().unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(layer.linear2.weight.grad, plain.linear2.weight.grad)


@torch.no_grad()
def test_clusters_are_put_where_the_features_are() -> None:
    samples = F.normalize(torch.randn(200, C, generator=torch.Generator().manual_seed(3)), dim=1)
    buff = VLADBuFF(C, netvlad_clusters=4, nv_pca=5)
    reduced = buff.fit(samples)
    centred = (samples - samples.mean(0)).double()
    best = torch.linalg.svd(centred).S[:5].square().sum()
    kept = (centred @ buff.pca_rot.double().T).square().sum()
    torch.testing.assert_close(kept, best, rtol=1e-5, atol=0)
    assert reduced.shape == (200, 5)
    torch.testing.assert_close(reduced.norm(dim=1), torch.ones(200))
    torch.testing.assert_close(reduced, buff.reduced(samples.T[None])[0].T)
    layer = SuperVLAD(C, supervlad_clusters=3, ghost_clusters=1)
    layer.set_clusters(samples[:4], samples)
    best_two = (samples @ layer.conv.weight.flatten(1).T).topk(2, dim=1).values
    torch.testing.assert_close((best_two[:, 1] - best_two[:, 0]).mean().exp(), torch.tensor(0.01), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("supervlad", {"supervlad_clusters": 0}, "0 clusters and 1 ghosts"),
        ("cricavpr", {"nhead": 5}, "5 attention heads for 32 channels"),
        ("edtformer", {"nhead": 5}, "5 attention heads for 32 channels"),
        ("qaa", {"feature_nheads": 7}, "7 attention heads for 128 channels"),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        build_aggregation(name, C, **options)
