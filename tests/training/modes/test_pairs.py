"""The part of a network that compares two images learns beside any way to train, or alone."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from calls import TRAINING, of
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import gradients_of_one_and_two, interrupted, network_of, recipe_of, recipe_with, trained
from token_networks import tiny
from torch import Tensor

from vgbench.data import DataOptions, TripletBatch
from vgbench.data.augment import AugmentOptions
from vgbench.errors import UserError
from vgbench.models import build_aggregation
from vgbench.models.aggregation import r2former
from vgbench.models.base import Backbone
from vgbench.models.network import Network
from vgbench.training.losses.pairs import PAIR_LOSSES
from vgbench.training.modes.joint import JointMode
from vgbench.training.modes.pairs import PairMode, hardest, pair_parameters, with_pairs
from vgbench.training.modes.pairs_options import PairTrainingOptions
from vgbench.training.modes.table import build_mode

NAMES = ("selavpr", "fol", "r2former", "pairvpr")
SIDE = {"r2former": 32, "fol": 42}


def made(root: Path, name: str, kind: str, seed: int = 0, **options: Any) -> tuple[Network, Any, Any]:
    network = tiny(name, seed)
    base = recipe_of(root, kind, network=network, augmentation=AugmentOptions())
    side = SIDE.get(name, 28)
    training = replace(base.training, negs_num_per_query=2, neg_samples_num=8, train_batch_size=2, queries_per_epoch=4,
                       cache_refresh_rate=4)  # fmt: skip
    recipe = replace(
        base, descriptors_dim=network.descriptors_dim, data=replace(base.data, resize=(side, side)),
        inference=replace(base.inference, size=(side, side)), training=training,
    )  # fmt: skip
    inner = build_mode(recipe)
    return network, inner, with_pairs(inner, PairTrainingOptions(**options), recipe)


def triplets_in(batch: Any, descriptors: Tensor) -> list[tuple[int, int, int]]:
    if hasattr(batch, "negatives"):
        sides = zip(batch.query.tolist(), batch.positive.tolist(), batch.negatives.tolist(), strict=True)
        return [(query, positive, negative) for query, positive, negatives in sides for negative in negatives]
    return [tuple(row) for row in hardest(descriptors, batch.labels).tolist()]


def hardest_by_definition(descriptors: Tensor, labels: list[int]) -> list[tuple[int, int, int]]:
    alike = F.normalize(descriptors, dim=1).double()
    found = []
    for i in range(len(labels)):
        same = [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        others = [j for j in range(len(labels)) if labels[j] != labels[i]]
        if same and others:
            cosines = (alike @ alike[i]).tolist()
            found.append((i, min(same, key=cosines.__getitem__), max(others, key=cosines.__getitem__)))
    return found


KINDS = {"selavpr": "triplets", "fol": "places", "r2former": "triplets", "pairvpr": "places"}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_the_loss_is_the_inner_one_and_that_of_pairs(tiny_dataset: Path, name: str, kind: str) -> None:
    margin = 0.5 if name in ("selavpr", "fol") else 0.0  # so that every triplet has a loss
    network, inner, mode = made(tiny_dataset, name, kind, pair_margin=margin)
    assert isinstance(mode, PairMode) and f"what --rerank {name} needs learns beside it" in mode.summary()
    batch = next(iter(mode.round(network, 0, 0)))
    network.eval()  # SALAD's layers drop out
    total = mode.loss(lambda images: network(images), batch, torch.Generator().manual_seed(3))
    total.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in pair_parameters(network) if p.dim() > 1)
    with torch.no_grad():
        plain = inner.loss(lambda images: network(images), batch, torch.Generator().manual_seed(3))
        tokens = [one for _, one in network.aggregation.pair_tokens(network.local_features(batch.images))]
        rows = triplets_in(batch, network(batch.images))
        loss = PAIR_LOSSES.resolve(name)()
        terms, order = [], []
        for query, positive, negative in rows:
            pairs = torch.tensor([[query, positive], [query, negative]])
            right, wrong = loss.scores(network.aggregation, tokens, pairs).double()
            terms.append(float(loss.compare(right, wrong, margin)))
            order.append(bool(right > wrong))
    of_pairs = sum(terms) / len(terms)
    assert of_pairs > 0 and mode.numbers()["loss_pairs"] == pytest.approx(of_pairs, rel=1e-3, abs=1e-5)
    assert mode.numbers()["pairs_ordered"] == pytest.approx(sum(order) / len(order), abs=0.02)
    weight = 2.0 if name == "pairvpr" else 1.0
    assert float(total.detach()) == pytest.approx(float(plain) + weight * of_pairs, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_alone_nothing_else_learns(tiny_dataset: Path, name: str) -> None:
    network, _, mode = made(tiny_dataset, name, "places", train_pairs="alone", pair_weight=3.0,
                             pair_margin=0.5 if name in ("selavpr", "fol") else 0.0)  # fmt: skip
    network.train()
    batch = next(iter(mode.round(network, 0, 0)))
    total = mode.loss(lambda images: network(images), batch, torch.Generator())
    assert float(total.detach()) == pytest.approx(3 * mode.numbers()["loss_pairs"], rel=1e-5)
    total.backward()
    own = {id(parameter) for parameter in pair_parameters(network)}
    for key, parameter in network.named_parameters():
        assert parameter.requires_grad == (id(parameter) in own), key
        assert (parameter.grad is not None) == (id(parameter) in own), key
    assert not network.backbone.training and "only what --rerank" in mode.summary()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_ranks_have_the_gradients_of_one(tiny_dataset: Path, tmp_path: Path) -> None:
    def mode(share: int) -> tuple[Any, Network]:
        network, inner, pairs = made(tiny_dataset, "selavpr", "places", pair_margin=0.2)
        inner.options = replace(inner.options, places_per_batch=4 // share)
        return pairs, network

    whole, two = gradients_of_one_and_two(mode, tmp_path)
    assert two.keys() == whole.keys() and "aggregation.local.upconv1.weight" in whole
    for key, value in whole.items():
        torch.testing.assert_close(two[key], value, atol=1e-4 * float(value.abs().max()), rtol=1e-3)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(0, 100))
def test_the_hardest_of_a_batch(labels: list[int], seed: int) -> None:
    descriptors = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    found = hardest(descriptors.float(), torch.tensor(labels))
    assert [tuple(row) for row in found.tolist()] == hardest_by_definition(descriptors, labels)


def test_several_sets_have_their_weights(tiny_dataset: Path) -> None:
    network, inner, _ = made(tiny_dataset, "pairvpr", "triplets")
    other = made(tiny_dataset, "pairvpr", "places")[1]
    recipe = replace(recipe_of(tiny_dataset, "triplets"), network=network)
    mode: Any = with_pairs(JointMode({"a": inner, "b": other}, (1.0, 0.25)), PairTrainingOptions(), recipe)
    batch = next(iter(mode.round(network, 0, 0)))
    with torch.no_grad():
        total = float(mode.loss(lambda images: network(images), batch, torch.Generator().manual_seed(0)))
        plain = float(mode.mode.loss(lambda images: network(images), batch, torch.Generator().manual_seed(0)))
        apart = [float(told[0]) for told in mode._told]
    assert len(apart) == 2 and total == pytest.approx(plain + 2 * (apart[0] + 0.25 * apart[1]), rel=1e-5)


def test_what_cannot_learn_says_so(tiny_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipe_of(tiny_dataset, "places", network=network_of())
    mode = build_mode(recipe)
    assert with_pairs(mode, PairTrainingOptions(), recipe) is mode
    with pytest.raises(UserError, match=r"--train_pairs joint: resnet18conv4 \+ gem has no part that compares pairs"):
        with_pairs(mode, PairTrainingOptions(train_pairs="joint"), recipe)
    with pytest.raises(UserError, match=r"--pair_margin 0.1: the loss of pairvpr has no margin"):
        made(tiny_dataset, "pairvpr", "places", pair_margin=0.1)
    with pytest.raises(UserError, match="--train_pairs off: pairs have no loss"):
        PairTrainingOptions(train_pairs="off", pair_weight=1.0)
    assert not isinstance(made(tiny_dataset, "pairvpr", "places", train_pairs="off")[2], PairMode)
    assert not caplog.records
    chunked = replace(recipe, network=tiny("fol"), training=replace(recipe.training, grad_cache_chunk=4))
    with caplog.at_level(logging.WARNING):
        assert with_pairs(mode, PairTrainingOptions(), chunked) is mode
    assert "what --rerank fol needs does not learn with --grad_cache_chunk 4; it stays as it is" in caplog.text
    with pytest.raises(UserError, match=r"--pair_weight 2.0: pairs do not learn with --grad_cache_chunk 4"):
        with_pairs(mode, PairTrainingOptions(pair_weight=2.0), chunked)


class Looks(Backbone):
    """Maps [B,12,3,3] as they are, in the form that an aggregation takes."""

    out_channels = 12

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, images: Tensor) -> Any:
        token = images.mean((2, 3))
        if self.name == "r2former":
            return images, torch.stack([token, token], 1), images[:, 0].flatten(1).softmax(1)
        return (images, token) if self.name == "pairvpr" else images


class Given:
    """A way to train whose loss is nothing."""

    def loss(self, forward: Any, batch: Any, generator: torch.Generator) -> Tensor:
        return forward(batch.images).sum() * 0


PLACES = 12


def scene(rows: Tensor, draw: torch.Generator, clear: float) -> Tensor:
    """Views of places: 4 channels say which place it is, cell by cell; 8 are of the view, and strong in the mean."""
    place = clear * torch.randn(PLACES, 4, 3, 3, generator=torch.Generator().manual_seed(0))[rows]
    count = len(rows)
    view = 1.5 * torch.randn(count, 8, 1, 1, generator=draw) + 0.5 * torch.randn(count, 8, 3, 3, generator=draw)
    return torch.cat([place + 0.2 * torch.randn(count, 4, 3, 3, generator=draw), view], 1)


def recalls(network: Network, loss: Any, clear: float) -> tuple[float, float]:
    """R@1 of new views by descriptors, and by the scores of pairs."""
    draw, rows = torch.Generator().manual_seed(9), torch.arange(PLACES)
    database, queries = scene(rows, draw, clear), scene(rows, draw, clear)
    with torch.no_grad():
        found = (network(queries) @ network(database).T).argmax(1)
        both = network.aggregation.pair_tokens(network.local_features(torch.cat([queries, database])))
        pairs = torch.cartesian_prod(rows, rows + PLACES)
        scores = loss.scores(network.aggregation, [one for _, one in both], pairs).view(PLACES, PLACES)
    return tuple(float((best == rows).float().mean()) for best in (found, scores.argmax(1)))


@pytest.mark.parametrize(
    ("name", "clear", "steps", "rate", "parts"),
    [
        ("selavpr", 1, 40, 1e-3, {}),
        ("r2former", 3, 80, 1e-3, {"out_dim": 6, "num_local": 9}),
        ("pairvpr", 3, 140, 2e-3, {"out_dim": 6, "decoder_dim": 24, "decoder_depth": 2, "decoder_heads": 3}),
    ],
)
def test_pairs_are_put_in_order_that_descriptors_cannot_tell(
    name: str, clear: float, steps: int, rate: float, parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r2former, "LAYERS", 1)
    monkeypatch.setattr(r2former, "PAIR_LAYERS", 1)
    torch.manual_seed(0)
    network = Network(Looks(name), build_aggregation(name, 12, **parts), {"backbone": "looks", "aggregation": name})
    loss = PAIR_LOSSES.resolve(name)()
    options = PairTrainingOptions(train_pairs="alone", pair_margin=0.1 if loss.has_margin else 0.0)
    mode = PairMode(Given(), loss, recipe_with(DataOptions(resize=(8, 8))), network, options)  # type: ignore[arg-type]
    before = recalls(network, loss, clear)
    optimizer = torch.optim.Adam(pair_parameters(network), lr=rate)
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randperm(PLACES, generator=draw)[:10].repeat(2)
        wrong = (torch.arange(10) + torch.randint(1, 10, (10,), generator=draw)) % 10 + 10
        batch = TripletBatch(scene(rows, draw, clear), rows < 0, torch.arange(10), torch.arange(10, 20), wrong[:, None])
        optimizer.zero_grad()
        mode.loss(network, batch, draw).backward()
        optimizer.step()
    after = recalls(network, loss, clear)
    assert before[0] == after[0] < 0.3, "the descriptors are as they were, and cannot tell"
    assert before[1] < 0.4 and after[1] > 0.55, (before, after)


@pytest.mark.parametrize(("name", "kind", "how"), [("pairvpr", "places", "alone"), ("selavpr", "triplets", "joint")])
def test_a_cut_run_ends_with_the_same_bits(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, how: str
) -> None:
    def begun(seed: int = 0) -> tuple[Any, Network]:
        margin = 0.5 if name == "selavpr" else 0.0
        network, _, mode = made(tiny_dataset, name, kind, seed, train_pairs=how, pair_margin=margin)
        return mode, network

    options = begun()[0].mode.recipe.training
    whole = trained(*begun(), tmp_path / "whole", options).state_dict()
    with interrupted(monkeypatch, PairMode, 4):
        trained(*begun(), tmp_path / "cut", options)
    resumed = trained(*begun(5), tmp_path / "cut", options, resume=True).state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    before = tiny(name).state_dict()
    assert any(not torch.equal(value, whole[key]) for key, value in before.items())


@pytest.mark.slow
def test_a_run_of_pairs_alone_is_validated_and_tested_with_its_re_ranker(
    call: Any, pristine_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["--backbone=efficientnet_lite0_s16", "--aggregation=selavpr", "--train_pairs=alone", "--pair_margin=0.1"]
    few = [word for word in TRAINING if not word.startswith("--netvlad")]
    status, _, told = call("train.py", *of(pristine_dataset), *few, *words, "--rerank_topk=3", f"--run_dir={run}")
    assert status == 0, told
    results = json.loads((run / "results.json").read_text())
    assert [step["name"] for step in results["rerank"]] == ["selavpr"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("pairs_ordered" in line and "loss_pairs" in line for line in lines)
    words = [f"--datasets_folder={pristine_dataset.parent}", "--rerank=selavpr", "--rerank_topk=3"]
    status, _, told = call("eval.py", f"--resume={run / 'best_model.pth'}", f"--run_dir={tmp_path / 'again'}", *words)
    assert status == 0, told
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["recalls"] == results["recalls"]
