"""Codes that learn beside any way to train: their losses by the formulas, what they leave alone, what they gain."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from calls import TRAINING, of
from recipes import gradients_of_one_and_two, network_of, recipe_of
from torch import Tensor

from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.errors import UserError
from vgbench.models.hashing import HashingBranch, attach_hashing
from vgbench.training.losses.metric import build_metric_loss, build_metric_miner, loss_of
from vgbench.training.modes.hashing import HashingMode, code_loss, with_hashing
from vgbench.training.modes.hashing_options import HashingOptions
from vgbench.training.modes.table import build_mode


def test_the_similarity_loss_is_its_formula_in_float64() -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(6, 9, generator=draw, requires_grad=True)
    codes = torch.randn(6, 16, generator=draw).sign().requires_grad_(True)
    found = code_loss(x, codes)
    terms = []
    for i in range(6):
        for j in range(i + 1, 6):
            a, b = x[i].detach().double(), x[j].detach().double()
            same = sum(p * q for p, q in zip(codes[i].tolist(), codes[j].tolist(), strict=True)) / 16
            terms.append((float(a @ b / (a.norm() * b.norm())) - same) ** 2)
    assert float(found.detach()) == pytest.approx(sum(terms) / 15, rel=1e-6)
    found.backward()
    assert x.grad is None and codes.grad.abs().sum() > 0
    assert float(code_loss(x[:1], codes[:1])) == 0


def hashed(root: Path, kind: str, bits: int = 16, **options: float) -> tuple[Any, Any, Any]:
    network = network_of()
    recipe = recipe_of(root, kind)
    torch.manual_seed(1)
    attach_hashing(network, bits)
    recipe = replace(recipe, network=network)
    inner = build_mode(recipe)
    return network, inner, with_hashing(inner, HashingOptions(**options), recipe)


@pytest.mark.parametrize("kind", ["places", "classes", "triplets"])
def test_the_network_learns_as_without_codes_and_the_branch_beside_it(tiny_dataset: Path, kind: str) -> None:
    network, inner, mode = hashed(tiny_dataset, kind, hash_metric_weight=0.5, hash_similarity_weight=2.0)
    assert isinstance(mode, HashingMode) and "codes of 16 bits" in mode.summary()
    network.train()
    batch = next(iter(mode.round(network, 0, 0)))
    seen: list[Tensor] = []

    def forward(images: Tensor) -> Tensor:
        seen.append(network(images))
        return seen[-1]

    state = {key: value.clone() for key, value in network.state_dict().items()}
    total = mode.loss(forward, batch, torch.Generator().manual_seed(3))
    total.backward()
    grads = {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}
    network.load_state_dict(state)
    codes = network.hashing(seen[0].detach())
    expected = 2.0 * code_loss(seen[0], codes)
    if kind != "classes":  # a classifier knows descriptors of one length alone
        expected = expected + 0.5 * inner.judge(codes / 4, batch)
    network.load_state_dict(state)
    network.zero_grad()
    plain = inner.loss(forward, batch, torch.Generator().manual_seed(3))
    assert float(total) == pytest.approx(float(plain + expected), rel=1e-5)
    assert mode.numbers()["loss_codes"] == pytest.approx(float(expected), rel=1e-5)
    plain.backward()
    for name, parameter in network.named_parameters():
        if name.startswith("hashing."):
            assert grads[name].abs().sum() > 0
        elif parameter.grad is not None:
            assert torch.equal(grads[name], parameter.grad), name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_ranks_have_the_gradients_of_one(tiny_dataset: Path, tmp_path: Path) -> None:
    def made(share: int) -> tuple[Any, Any]:
        network, inner, mode = hashed(tiny_dataset, "places")
        inner.augment = BatchAugment(AugmentOptions())  # drawn for each rank apart
        inner.options = replace(
            inner.options, places_per_batch=4 // share, place_batches="cliques", clique_batches=1, min_img_per_place=4
        )
        return mode, network

    whole, two = gradients_of_one_and_two(made, tmp_path)
    assert two.keys() == whole.keys() and "hashing.projection.weight" in whole
    for name, value in whole.items():
        torch.testing.assert_close(two[name], value, atol=1e-5 * float(value.abs().max()), rtol=1e-3)


def test_without_a_branch_or_descriptors(tiny_dataset: Path) -> None:
    recipe = recipe_of(tiny_dataset, "places")
    mode = build_mode(recipe)
    assert with_hashing(mode, HashingOptions(), recipe) is mode
    with pytest.raises(UserError, match="--hash_bits: --train_mode geowarp trains what compares pairs"):
        network = network_of()
        attach_hashing(network, 4)
        with_hashing(mode, HashingOptions(), replace(recipe_of(tiny_dataset, "geowarp"), network=network))
    with pytest.raises(UserError, match="nothing to learn codes from"):
        HashingOptions(hash_metric_weight=0, hash_similarity_weight=0)


class Given:
    """A way to train on descriptors as they are."""

    rounds_per_epoch = 1
    criterion = build_metric_loss("MultiSimilarity", (), None, places=30, dim=32)
    miner = build_metric_miner("MultiSimilarity", (), None)

    def loss(self, forward: Any, batch: Any, generator: Any) -> Tensor:
        return self.judge(forward(batch[0]), batch)

    def judge(self, descriptors: Tensor, batch: Any) -> Tensor:
        return loss_of(self.criterion, self.miner, descriptors, batch[1])


def recall(branch: HashingBranch, x: Tensor, y: Tensor, labels: Tensor) -> float:
    codes = [branch(one) for one in (x, y)]
    return float((labels[(codes[0] @ codes[1].T).argmax(1)] == labels).float().mean())


def test_training_finds_bits_that_tell_places_apart() -> None:
    """Places differ in a few dimensions, and images of one place in many more."""
    draw = torch.Generator().manual_seed(0)
    places = torch.cat([torch.randn(60, 6, generator=draw), torch.zeros(60, 26)], 1)

    def images() -> Tensor:
        return F.normalize(
            places + 0.15 * torch.randn(60, 32, generator=draw) * torch.tensor([1.0] * 6 + [8.0] * 26), dim=1
        )

    torch.manual_seed(0)
    branch = HashingBranch(32, 24)
    train = torch.stack([images() for _ in range(6)], 1)
    branch.train()(train.flatten(0, 1))  # so that the untrained one has thresholds too
    one, other, labels = images(), images(), torch.arange(60)
    before = recall(branch.eval(), one, other, labels)
    mode = HashingMode(Given(), branch, HashingOptions())  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(branch.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    branch.train()
    for _ in range(150):
        rows = torch.from_numpy(rng.choice(60, 20, replace=False))
        batch = (train[rows].flatten(0, 1), rows.repeat_interleave(6))
        optimizer.zero_grad()
        mode.loss(lambda images: images, batch, torch.Generator()).backward()
        optimizer.step()
    after = recall(branch.eval(), one, other, labels)
    assert after > before + 0.15, (before, after)


def test_a_trained_network_is_tested_by_its_codes(call: Any, pristine_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    status, _, told = call("train.py", *of(pristine_dataset), *TRAINING, f"--run_dir={run}", "--hash_bits=12")
    assert status == 0, told
    facts = json.loads((run / "results.json").read_text())["compression"]
    assert facts["what"] == "hash codes of 2 bytes" and facts["bytes_per_image"] == 2
    assert "loss_codes" in (run / "metrics.jsonl").read_text()
    status, _, told = call("eval.py", f"--resume={run / 'best_model.pth'}", f"--run_dir={tmp_path / 'again'}",
                           f"--datasets_folder={pristine_dataset.parent}")  # fmt: skip
    assert status == 0, told
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["compression"]["what"] == "hash codes of 2 bytes"
    status, _, told = call("eval.py", f"--resume={run / 'best_model.pth'}", f"--run_dir={tmp_path / 'floats'}",
                           f"--datasets_folder={pristine_dataset.parent}", "--quantise=none")  # fmt: skip
    assert status == 0, told
    assert not json.loads((tmp_path / "floats" / "results.json").read_text()).get("compression")
