"""Losses of pairs of images, by their formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vgbench.training.losses.pairs import (
    PAIR_LOSSES,
    MutualMatches,
    SamePlace,
    SureMatches,
    WeightedSamePlace,
    mutual_similarity,
)


def units(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def by_definition(first: Tensor, second: Tensor, least: float) -> float:
    a, b = first.tolist(), second.tolist()
    cosines = [[sum(p * q for p, q in zip(x, y, strict=True)) for y in b] for x in a]
    mutual = []
    for i, row in enumerate(cosines):
        j = max(range(len(row)), key=row.__getitem__)
        if max(range(len(a)), key=lambda k: cosines[k][j]) == i:
            mutual.append(row[j])
    sure = [value for value in mutual if value > least] or mutual
    return sum(sure) / len(sure)


@settings(max_examples=50)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 50), st.sampled_from([-2.0, 0.5, 0.7, 1.0]))
def test_the_mean_cosine_of_mutual_nearest_neighbours(one: int, other: int, seed: int, least: float) -> None:
    first, second = units(one, seed), units(other, seed + 100)
    found = float(mutual_similarity(first, second, least))
    assert found == pytest.approx(by_definition(first, second, least), abs=1e-12)
    assert found == pytest.approx(float(mutual_similarity(second, first, least)), abs=1e-12)
    assert float(mutual_similarity(first, first, least)) == pytest.approx(1)


def test_its_gradient_is_that_of_the_matched_features_alone() -> None:
    first, second = units(6, 1).requires_grad_(), units(4, 2)
    mutual_similarity(first, second, -2.0).backward()
    cosines = first.detach() @ second.T
    expected = torch.zeros_like(first)
    pairs = [(i, int(cosines[i].argmax())) for i in range(6)]
    pairs = [(i, j) for i, j in pairs if int(cosines[:, j].argmax()) == i]
    for i, j in pairs:
        expected[i] = second[j] / len(pairs)
    torch.testing.assert_close(first.grad, expected)
    assert 0 < len(pairs) < 6


@pytest.mark.parametrize(("loss", "least"), [(MutualMatches(), -2.0), (SureMatches(), 0.7)])
def test_scores_of_selavpr_and_fol(loss: MutualMatches, least: float) -> None:
    tokens = [units(7, 3), units(7, 4), units(5, 5)]
    pairs = torch.tensor([[0, 1], [2, 0], [1, 1]])
    found = loss.scores(None, tokens, pairs)
    assert found.tolist() == pytest.approx([by_definition(tokens[a], tokens[b], least) for a, b in pairs.tolist()])
    right, wrong = torch.tensor([0.5, 0.9, 0.2]), torch.tensor([0.6, 0.2, 0.2])
    assert loss.compare(right, wrong, 0.05).tolist() == pytest.approx([0.15, 0.0, 0.05])
    assert loss.scores(None, tokens, pairs[:0]).shape == (0,)


class Dots:
    """A head whose logit is a dot product that knows which image is the query."""

    def pair_logits(self, queries: Tensor, candidates: Tensor) -> Tensor:
        return (queries * candidates).sum((1, 2)) + queries[:, 0, 0]


@pytest.mark.parametrize("loss", [SamePlace(), WeightedSamePlace()])
def test_cross_entropy_of_two_classes_is_that_of_their_difference(loss: SamePlace) -> None:
    tokens = [torch.randn(3, 2, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    found = loss.scores(Dots(), tokens, torch.tensor([[0, 1], [1, 0]]))
    assert found.tolist() == pytest.approx([float((tokens[0] * tokens[1]).sum() + tokens[a][0, 0]) for a in (0, 1)])
    logits = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 5
    difference = logits[:, 1] - logits[:, 0]
    terms = []
    for (x, y), (v, w) in zip(logits[:4].tolist(), logits[4:].tolist(), strict=True):
        right = -math.log(math.exp(y) / (math.exp(x) + math.exp(y)))
        wrong = -math.log(math.exp(v) / (math.exp(v) + math.exp(w)))
        terms.append((right + wrong) / 2)
    assert loss.compare(difference[:4], difference[4:], 0.0).tolist() == pytest.approx(terms)


def test_each_re_ranker_has_its_papers_weight() -> None:
    found = {name: PAIR_LOSSES.resolve(name)() for name in PAIR_LOSSES}
    assert {name: loss.weight for name, loss in found.items()} == {
        "selavpr": 1.0, "fol": 1.0, "r2former": 1.0, "pairvpr": 2.0,
    }  # fmt: skip
    assert [name for name, loss in found.items() if loss.has_margin] == ["selavpr", "fol"]
