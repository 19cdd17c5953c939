"""Networks that look at the stored tokens of two images: each formula again in float64, and what must not matter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from token_networks import Pictures, of_pictures, tiny
from torch import Tensor, nn

from vgbench.data.positives import neighbours_within
from vgbench.errors import UserError
from vgbench.models.aggregation.pairvpr import sines
from vgbench.retrieval.adaptive.gate import Gate
from vgbench.retrieval.adaptive.stage import Reranking, run
from vgbench.retrieval.rerank.counted import FolReranker, SelavprReranker
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.rerank.token_pairs import PairvprReranker, R2formerReranker
from vgbench.runtime import Runtime

METHODS: dict[str, Any] = {"selavpr": SelavprReranker, "fol": FolReranker, "r2former": R2formerReranker,
                           "pairvpr": PairvprReranker}  # fmt: skip


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.double().T + layer.bias.double()


def normed(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * layer.weight.double() + layer.bias.double()


def mlp(layer: Any, x: Tensor) -> Tensor:
    hidden = linear(layer.fc1, x)
    return linear(layer.fc2, hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention of tokens [N,C] to others [M,C] by its definition, a head at a time."""
    step, mixed = q.shape[1] // heads, []
    for start in range(0, q.shape[1], step):
        one = slice(start, start + step)
        mixed.append(torch.softmax(q[:, one] @ k[:, one].T / math.sqrt(step), dim=1) @ v[:, one])
    return torch.cat(mixed, dim=1)


def pairvpr_logit(head: Any, first: Tensor, second: Tensor) -> float:
    """The decoder on one pair of token sets [T,C], float64."""
    x = torch.cat([head.decoder_clstoken[0].double(), first])
    for layer in head.dec_blocks:
        own, other = normed(layer.norm1, x), normed(layer.norm_y, second)
        x = x + linear(layer.attn.proj, attend(*linear(layer.attn.qkv, own).chunk(3, dim=1), layer.attn.heads))
        asks, cross = normed(layer.norm2, x), layer.cross_attn
        q, k, v = linear(cross.projq, asks), linear(cross.projk, other), linear(cross.projv, other)
        x = x + linear(cross.proj, attend(q, k, v, cross.heads))
        x = x + mlp(layer.mlp, normed(layer.norm3, x))
    hidden = linear(head.classvprmodule[0], normed(head.dec_norm, x[0]))
    return float(linear(head.classvprmodule[2], hidden.clamp(min=0)))


def pairvpr_score(head: Any, one: Tensor, other: Tensor) -> float:
    return pairvpr_logit(head, one.double(), other.double()) + pairvpr_logit(head, other.double(), one.double())


def waves_of(x: float, y: float) -> Tensor:
    """32 sines and cosines of a place."""
    turns = [[f(share / 10000 ** (i / 8)) for f in (math.sin, math.cos) for i in range(8)] for share in (x, y)]
    return torch.tensor(turns[0] + turns[1], dtype=torch.float64)


def transformed(layers: Any, norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """What the first of tokens [N,C] becomes."""
    for layer in layers:
        own = normed(layer.norm1, x)
        x = x + linear(layer.attn.proj, attend(*linear(layer.attn.qkv, own).chunk(3, dim=1), layer.attn.heads))
        x = x + mlp(layer.mlp, normed(layer.norm2, x))
    return normed(norm, x)[0]


def r2former_score(head: Any, one: Tensor, other: Tensor) -> float:
    """The transformer on one pair of token sets [T,131], a patch and a partner at a time."""
    net, patches = head.reranker, []
    sides = (one.double(), other.double())
    for asks in (0, 1):
        for patch in sides[asks]:
            alike = [float(F.cosine_similarity(patch[3:], each[3:], dim=0)) for each in sides[1 - asks]]
            five, of_query = [], []
            for row in sorted(range(len(alike)), key=lambda row: -alike[row])[:5]:
                both = [patch[:3].clamp(0, 1), sides[1 - asks][row, :3].clamp(0, 1)]
                query, candidate = both[asks], both[1 - asks]
                seven = torch.cat([query, candidate, torch.tensor([alike[row]], dtype=torch.float64)])
                five.append(linear(net.pair_head, seven) + waves_of(*candidate[:2].tolist()))
                of_query.append(query)
            joined = transformed(net.blocks_2, net.decoder_norm, torch.stack([net.cls_token_2[0, 0].double(), *five]))
            patches.append(linear(net.pair_head_2, joined) + waves_of(*of_query[0][:2].tolist()))
    whole = transformed(net.blocks, net.decoder_norm, torch.stack([net.cls_token[0, 0].double(), *patches]))
    return float(linear(net.decoder_pred, whole).softmax(dim=0)[1])


SCORES: dict[str, Callable[[Any, Tensor, Tensor], float]] = {"r2former": r2former_score, "pairvpr": pairvpr_score}


@pytest.mark.parametrize("name", SCORES)
def test_candidates_come_by_the_score_of_the_pair(pictures: Callable[..., Pictures], name: str) -> None:
    network = tiny(name)
    context, before = pictures(network=network)
    with torch.inference_mode():
        maps = [
            network.local_features(of_pictures(t, network)) for t in (context.split.queries, context.split.database)
        ]
        tokens = [[one.half().double() for _, one in network.aggregation.pair_tokens(found)] for found in maps]
        scores = [[SCORES[name](network.aggregation, q, c) for c in tokens[1]] for q in tokens[0]]
    done = METHODS[name]()(before, context)
    for query, row in enumerate(before.indices):
        own = np.array(scores[query])[row]
        order = np.argsort(-own, kind="stable")
        np.testing.assert_array_equal(done.predictions.indices[query], row[order])
        np.testing.assert_allclose(done.predictions.distances[query], -own[order], rtol=2e-3, atol=2e-4)
    assert done.bytes_per_image > tokens[0][0].numel() * 2


@pytest.mark.parametrize("name", SCORES)
def test_neither_the_order_of_a_pair_nor_the_batch_changes_its_score(name: str) -> None:
    head, generator = tiny(name).aggregation, torch.Generator().manual_seed(3)
    first, second = torch.rand(2, 5, 12, head.token_dim, generator=generator)
    with torch.inference_mode():
        together = head.pair_scores(first, second)
        if name == "pairvpr":  # R2Former knows which is the query
            torch.testing.assert_close(head.pair_scores(second, first), together, atol=1e-5, rtol=1e-4)
        for part in (1, 2, 4):
            parts = zip(first.split(part), second.split(part), strict=True)
            torch.testing.assert_close(torch.cat([head.pair_scores(*p) for p in parts]), together, atol=1e-5, rtol=1e-4)
    assert together.std() > 1e-2


@pytest.mark.parametrize("name", SCORES)
def test_how_many_pairs_at_once_and_how_deep(
    pictures: Callable[..., Pictures], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, before = pictures(network=tiny(name))
    whole = METHODS[name]()(before, context).predictions
    monkeypatch.setattr(METHODS[name], "pairs_at_once", 3)
    parts = METHODS[name]()(before, context).predictions
    np.testing.assert_array_equal(parts.indices, whole.indices)
    np.testing.assert_allclose(parts.distances, whole.distances, rtol=1e-4, atol=1e-5)
    two = dataclasses.replace(context, options=RerankOptions(rerank=(name,), rerank_topk=2))
    found = METHODS[name]()(before, two).predictions
    np.testing.assert_array_equal(np.sort(found.indices[:, :2]), np.sort(before.indices[:, :2]))
    np.testing.assert_array_equal(found.indices[:, 2:], before.indices[:, 2:])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("estimator", ["sue", "distance"])
def test_a_gate_reranks_the_queries_that_need_it(pictures: Callable[..., Pictures], name: str, estimator: str) -> None:
    context, before = pictures(network=tiny(name), rerank=(name,), uncertainty=(estimator,))
    near = {40.0: neighbours_within(context.split.queries.utm, context.split.database.utm, 40.0)}
    before.distances[1] -= 0.3  # so that one query is surer than another
    everything = run(before, context, Reranking(context.options), near, (1,))
    certainty = everything.scores[estimator]
    gate = Gate(estimator, float(np.median(np.unique(certainty))), "given")
    some = run(before, context, Reranking(context.options, gate), near, (1,))
    chosen = certainty < gate.below
    assert 0 < chosen.sum() < len(chosen)
    np.testing.assert_array_equal(some.predictions.indices[chosen], everything.predictions.indices[chosen])
    np.testing.assert_array_equal(some.predictions.indices[~chosen], before.indices[~chosen])
    assert some.facts["gate"]["reranked"] == chosen.sum()


def test_positions_are_sines_of_the_cells_column_and_then_of_its_row() -> None:
    found = sines(16, 3)[0]
    for cell in range(9):
        for axis, number in enumerate((cell % 3, cell // 3)):
            for i in range(4):
                angle = number / 10000 ** (i / 4)
                assert found[cell, 8 * axis + i] == pytest.approx(math.sin(angle), abs=1e-6)
                assert found[cell, 8 * axis + 4 + i] == pytest.approx(math.cos(angle), abs=1e-6)


def test_pairvpr_keeps_its_patches_with_their_positions() -> None:
    head = tiny("pairvpr").aggregation
    features = torch.randn(2, 32, 23, 23, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        found = head.pair_tokens((features, torch.zeros(2, 32)))
        wanted = linear(head.decoder_embed, features.double().flatten(2).transpose(1, 2)) + sines(24, 23)
        other = head.pair_tokens((features[:, :, :5, :7].contiguous(), torch.zeros(2, 32)))
    for image, (places, tokens) in enumerate(found):
        torch.testing.assert_close(tokens.double(), wanted[image], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(places[24], torch.tensor([1.5 / 23, 1.5 / 23]))
    assert other[0][1].shape == (35, 24)
    grid = F.interpolate(sines(24, 23).transpose(1, 2).reshape(1, 24, 23, 23), size=(5, 7), mode="bicubic")
    own = linear(head.decoder_embed, features[0, :, :5, :7].double().flatten(1).T) + grid[0].flatten(1).T
    torch.testing.assert_close(other[0][1].double(), own, atol=1e-5, rtol=1e-5)


def test_r2former_keeps_the_patches_that_are_looked_at_the_most() -> None:
    network = tiny("r2former")
    images = torch.randint(0, 256, (2, 3, 64, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(6))
    model, head = network.backbone.model, network.aggregation
    with torch.inference_mode():
        found, descriptors = head.pair_tokens(network.local_features(images)), network(images)
        # timm's own layers, with the middle of the positions of 30 x 40 patches.
        middle = model.pos_embed[:, 2:].unflatten(1, (30, 40))[:, 13:17, 18:23].flatten(1, 2)
        patches = model.patch_embed.proj(network.normalise(images)).flatten(2).transpose(1, 2) + middle
        first = torch.cat([model.cls_token, model.dist_token], dim=1) + model.pos_embed[:, :2]
        before = model.blocks[0](torch.cat([first.expand(2, -1, -1), patches], dim=1))
        both = model.norm(model.blocks[1](before))[:, :2]
        wanted = F.normalize(head.head(both[:, 0]) + head.head_dist(both[:, 1]), dim=1)
    torch.testing.assert_close(descriptors, wanted, atol=1e-5, rtol=1e-4)
    last = model.blocks[1]
    for image, (places, tokens) in enumerate(found):
        qkv = linear(last.attn.qkv, normed(last.norm1, before[image].double()))
        looks = torch.zeros(20, dtype=torch.float64)
        for start in (0, 16):
            q, k = (qkv[:, base + start : base + start + 16] for base in (0, 32))
            looks += torch.softmax(q @ k.T / 4, dim=1)[:2, 2:].sum(dim=0)
        for rank, cell in enumerate(looks.argsort(descending=True)[:9].tolist()):
            row, column = divmod(cell, 5)
            torch.testing.assert_close(places[rank], torch.tensor([(column + 0.5) / 5, (row + 0.5) / 4]))
            shares = torch.tensor([(column + 0.5) / 5, (row + 0.5) / 5, (looks[cell] / looks.max()).item()])
            own = torch.cat([shares, linear(head.local_head, before[image, cell].double()).float()])
            torch.testing.assert_close(tokens[rank], own, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(30, 40), (18, 29), (40, 30), (20, 36), (33, 45), (48, 40)])
def test_positions_of_r2former_are_cut_or_stretched_as_its_authors_do(height: int, width: int) -> None:
    backbone = tiny("r2former").backbone
    learned = backbone.model.pos_embed.detach().double()
    with torch.no_grad():
        found = backbone._positions(height, width).double()
    grid, side = learned[0, 2:].unflatten(0, (30, 40)), max(height, width)
    if (height, width) != (30, 40) and side > 30:
        wide = F.interpolate(grid.permute(2, 0, 1)[None], size=(side, side), mode="bicubic")[0].permute(1, 2, 0)
        middle = wide[side // 2, side // 2]
        # As far from the middle as the learned position 15 rows above the learned middle.
        ratio = (grid[0, 20] - grid[15, 20]).norm() / (wide[side // 2 - 15, side // 2] - middle).norm()
        grid = torch.stack([(one - middle) * ratio + middle for one in wide])
    if (height, width) != (30, 40):
        top, left = (length // 2 - part // 2 for length, part in zip(grid.shape[:2], (height, width), strict=True))
        grid = grid[top : top + height, left : left + width]
    torch.testing.assert_close(found[0], torch.cat([learned[0, :2], grid.flatten(0, 1)]), atol=1e-5, rtol=1e-4)


def test_r2former_describes_images_above_those_that_it_was_trained_with() -> None:
    network = tiny("r2former")
    with torch.inference_mode():
        found = network(torch.randint(0, 256, (1, 3, 496, 656), dtype=torch.uint8))
        tokens = network.aggregation.pair_tokens(network.local_features(torch.zeros(1, 3, 496, 656)))
    assert found.isfinite().all() and len(tokens[0][1]) == 9


def test_other_networks_are_refused() -> None:
    with pytest.raises(UserError, match=r"--rerank pairvpr: .* has no tokens for it. .* use --rerank fol"):
        PairvprReranker.check(tiny("fol"), RerankOptions(), Runtime())
