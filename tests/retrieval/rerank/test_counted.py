"""selavpr and fol: local features that find each other are counted; against the definition in float64."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from token_networks import Pictures, of_pictures, tiny
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.retrieval.rerank.base import Reranker
from vgbench.retrieval.rerank.counted import Alike, FolReranker, SelavprReranker
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Runtime


def counted(query: Tensor, candidate: Tensor, least: float = -2.0) -> int:
    """Mutual nearest neighbours by definition: i's nearest is j, j's nearest is i; tokens [T,C]."""
    similarity = query.double() @ candidate.double().T
    pairs = [(i, int(similarity[i].argmax())) for i in range(len(query))]
    return sum(int(similarity[:, j].argmax()) == i and float(similarity[i, j]) > least for i, j in pairs)


@pytest.mark.parametrize(("name", "method"), [("selavpr", SelavprReranker), ("fol", FolReranker)])
def test_candidates_come_by_the_number_of_matches(
    pictures: Callable[..., Pictures], name: str, method: Callable[[], Reranker]
) -> None:
    network = tiny(name)
    context, before = pictures(network=network)
    done = method()(before, context)
    with torch.inference_mode():
        tokens = [
            [one for _, one in network.aggregation.pair_tokens(network.local_features(of_pictures(table, network)))]
            for table in (context.split.queries, context.split.database)
        ]
    least = 0.7 if name == "fol" else -2.0
    for query, row in enumerate(before.indices):
        counts = np.array([counted(tokens[0][query].half(), tokens[1][place].half(), least) for place in row])
        order = np.argsort(-counts, kind="stable")
        np.testing.assert_array_equal(done.predictions.indices[query], row[order])
        np.testing.assert_allclose(done.predictions.distances[query], -np.log1p(counts[order]), atol=1e-6)
        assert len(set(counts)) > 1
    assert done.bytes_per_image > tokens[0][0].numel() * 2 and done.files["local_matches"].is_file()


def test_fol_takes_the_local_features_of_the_surest_cells() -> None:
    layer = tiny("fol").aggregation
    features = torch.randn(2, layer.upconv.in_channels, 17, 18, generator=torch.Generator().manual_seed(1))
    inputs = (features, torch.randn(2, features.shape[1]), torch.rand(2, 17 * 18))
    with torch.inference_mode():
        found, weights, dense = layer.pair_tokens(inputs), layer.shares(inputs).sum(1), layer.local_features(features)
    for image in range(2):
        kept = set(weights[image].argsort(descending=True)[:225].tolist())
        # The grid of local features has 65 x 69 points; the nearest cell of a point by PyTorch's rule is the floor.
        points = [(y, x) for y in range(65) for x in range(69) if y * 17 // 65 * 18 + x * 18 // 69 in kept]
        places, tokens = found[image]
        torch.testing.assert_close(tokens, torch.stack([dense[image, :, y, x] for y, x in points]))
        wanted = torch.tensor([((x / 4 + 0.5) / 18, (y / 4 + 0.5) / 17) for y, x in points])
        torch.testing.assert_close(places, wanted)
    torch.testing.assert_close(found[0][1].norm(dim=1), torch.ones(len(found[0][1])))


def test_a_bound_on_the_cosine_leaves_matches_out() -> None:
    generator = torch.Generator().manual_seed(2)
    vectors = [F.normalize(torch.randn(count, 6, generator=generator), dim=1) for count in (30, 20, 9)]
    images = [LocalFeatures(np.zeros((len(one), 2), np.float32), one.numpy(), (8, 8)) for one in vectors]
    with ThreadPoolExecutor(1) as pool:
        for least in (-2.0, 0.0, 0.6, 0.9, 1.0):
            found = Alike(least, Runtime())(images[0], images[1:], pool)
            assert [len(one) for one in found] == [counted(vectors[0], one, least) for one in vectors[1:]]
            alone = [Alike(least, Runtime())(images[0], [one], pool)[0] for one in images[1:]]
            for together, single in zip(found, alone, strict=True):
                np.testing.assert_array_equal(together, single)
            swapped = Alike(least, Runtime())(images[1], images[:1], pool)[0]
            assert sorted(map(tuple, swapped[:, ::-1].tolist())) == sorted(map(tuple, found[0].tolist()))


def test_what_is_kept_is_taken_up_again_and_said(
    pictures: Callable[..., Pictures], caplog: pytest.LogCaptureFixture
) -> None:
    context, before = pictures(network=tiny("selavpr"))
    first = SelavprReranker()(before, context)
    with caplog.at_level(logging.INFO):
        again = SelavprReranker()(before, context)
    np.testing.assert_array_equal(first.predictions.indices, again.predictions.indices)
    said = [record.getMessage() for record in caplog.records if "reused" in record.getMessage()]
    assert [line.split(": ")[1].split("; ")[1] for line in said] == [
        "features of 3 images reused", "features of 4 images reused",
    ]  # fmt: skip
    other = dataclasses.replace(context, network=tiny("selavpr", seed=5))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        SelavprReranker()(before, other)
    assert not [record for record in caplog.records if "reused" in record.getMessage()]


def test_networks_without_their_branch_are_refused() -> None:
    plain, runtime = build_network("dinov2_vits14", "gem", "none"), Runtime()
    with pytest.raises(UserError, match=r"--rerank selavpr: there is no network"):
        SelavprReranker.check(None, RerankOptions(), runtime)
    with pytest.raises(UserError, match=r"--rerank fol: .* has no tokens for it. .* use --method fol"):
        FolReranker.check(plain, RerankOptions(), runtime)
    with pytest.raises(UserError, match=r"--rerank fol: .* use --rerank selavpr"):
        FolReranker.check(tiny("selavpr"), RerankOptions(), runtime)
