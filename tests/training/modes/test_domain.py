from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_training
import torch
from PIL import Image
from recipes import recipe_with
from tiny_training import TinyBatch, TinyMode, run_tiny, states_equal, tiny_network
from torch import Tensor, nn

from vgbench.data import DataOptions
from vgbench.errors import UserError
from vgbench.training.modes.domain import DomainBatch, DomainMode, with_domain
from vgbench.training.modes.domain_classifier import DomainAdversary, DomainOptions, ramp, reverse_gradient


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "targets"
    for i in range(9):
        (root / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (6, 5, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{i % 2}" / f"{i}.png")
    return root


def options(folder: Path, **changes: Any) -> DomainOptions:
    return DomainOptions(**{"grl_folder": folder, "grl_batch_size": 3, "grl_hidden": 8, "grl_lr": 1e-2, **changes})


def make_mode(folder: Path, mode: Any = None, **changes: Any) -> DomainMode[TinyBatch]:
    data = DataOptions(resize=(4, 4), num_workers=0)
    return DomainMode(mode or TinyMode(), options(folder, **changes), recipe_with(data, descriptors_dim=5))


# -- the classifier ----------------------------------------------------------------------------------------------------


def test_gradients_come_back_reversed_and_scaled() -> None:
    values = torch.randn(4, 3, generator=seeded(0), requires_grad=True)
    weights = torch.randn(4, 3, generator=seeded(1))
    out = reverse_gradient(values, 0.3)
    assert torch.equal(out, values)
    (out * weights).sum().backward()
    assert torch.allclose(values.grad, -0.3 * weights)


def test_the_ramp_is_the_papers() -> None:
    for p in (0.0, 0.1, 0.5, 1.0):
        assert abs(ramp(p) - (2 / (1 + math.exp(-10 * p)) - 1)) < 1e-12
    assert ramp(0) == 0 and ramp(-1) == 0 and ramp(7) == ramp(1) > 0.999


@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
def test_the_network_gets_the_reversed_gradient_and_the_classifier_the_plain_one(progress: float) -> None:
    adversary = DomainAdversary(6, weight=0.25, hidden=7, seed=3).double()
    source = torch.randn(5, 6, generator=seeded(0), dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 6, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    loss = adversary.loss(source, target, progress)
    found = torch.autograd.grad(loss, [source, target, *adversary.parameters()])
    of_source, of_target = adversary(source), adversary(target)
    both = nn.functional.binary_cross_entropy_with_logits(of_source, torch.zeros(5).double())
    both = (both + nn.functional.binary_cross_entropy_with_logits(of_target, torch.ones(2).double())) / 2
    plain = torch.autograd.grad(both, [source, target, *adversary.parameters()])
    assert abs(float((loss - both).detach())) < 1e-12
    for i in (0, 1):
        assert (found[i] + 0.25 * ramp(progress) * plain[i]).abs().max() < 1e-12
        assert plain[i].abs().max() > 1e-4
    for ours, theirs in zip(found[2:], plain[2:], strict=True):
        assert (ours - theirs).abs().max() < 1e-12


def test_first_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, same, other = (DomainAdversary(4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert states_equal(first, same) and not states_equal(first, other)


def test_it_makes_two_domains_alike() -> None:
    """Descriptors that tell their domain in one direction lose it against the adversary, and keep it without."""
    generator = seeded(0)
    content = torch.randn(200, 7, generator=generator)
    domain = torch.cat([torch.ones(100, 1), -torch.ones(100, 1)])
    inputs = torch.cat([content, domain], 1)

    def gap(weight: float) -> float:
        torch.manual_seed(0)
        network = nn.Linear(8, 4)
        adversary = DomainAdversary(4, weight=weight, hidden=32)
        optimizers = [torch.optim.SGD(network.parameters(), lr=0.02), torch.optim.Adam(adversary.parameters(), lr=5e-3)]
        for step in range(400):
            descriptors = nn.functional.normalize(network(inputs), dim=1)
            loss = adversary.loss(descriptors[:100], descriptors[100:], step / 200)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        with torch.no_grad():
            found = nn.functional.normalize(network(inputs), dim=1)
        return float((found[:100].mean(0) - found[100:].mean(0)).norm())

    assert gap(1.0) < 0.5 * gap(0.0)


# -- around a way to train ---------------------------------------------------------------------------------------------


def test_a_round_brings_targets_to_every_step(folder: Path) -> None:
    mode = make_mode(folder)
    network = tiny_network()
    batches = list(mode.round(network, 2, 1))
    plain = TinyMode().round(network, 2, 1)
    assert len(batches) == len(mode.round(network, 2, 1)) == len(plain) == 4
    for batch, inner in zip(batches, plain, strict=True):
        assert torch.equal(batch.inner.images, inner.images)
        assert batch.targets.shape == (3, 3, 4, 4) and batch.targets.dtype == torch.uint8
        assert len(batch.targets.flatten(1).unique(dim=0)) == 3  # no image twice in a step
    again = list(make_mode(folder).round(network, 2, 1))
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(batches, again, strict=True))
    assert not torch.equal(batches[0].targets, batches[1].targets)
    elsewhere = list(mode.round(network, 2, 2))
    assert not all(torch.equal(a.targets, b.targets) for a, b in zip(batches, elsewhere, strict=True))
    more = list(make_mode(folder, grl_batch_size=20).round(network, 0, 0))
    assert more[0].targets.shape[0] == 20


def test_progress_grows_over_the_epochs_of_the_ramp(folder: Path) -> None:
    mode = make_mode(folder, grl_ramp_epochs=2)
    places = [(epoch, index) for epoch in range(3) for index in range(3)]
    found = [batch.progress for place in places for batch in mode.round(tiny_network(), *place)]
    assert np.abs(np.array(found) - np.arange(36) / 24).max() < 1e-9
    at_once = make_mode(folder, grl_ramp_epochs=0)
    first = next(iter(at_once.round(tiny_network(), 0, 1)))
    assert ramp(first.progress) > 0.999


def test_the_loss_is_the_modes_and_the_classifiers(folder: Path) -> None:
    mode, network = make_mode(folder), tiny_network().eval()
    batch = list(mode.round(network, 1, 0))[1]
    network.eval()
    inner = TinyMode()
    inner.memory = mode.mode.memory
    plain = inner.loss(network, batch.inner, seeded(5))
    found = mode.loss(network, batch, seeded(5))
    expected = mode.adversary.loss(network(batch.inner.images), network(batch.targets), batch.progress)
    assert torch.allclose(found, plain + expected)


def test_targets_come_in_the_size_of_the_sources(folder: Path) -> None:
    mode = make_mode(folder)
    shapes: list[tuple[int, ...]] = []

    def forward(images: Tensor) -> Tensor:
        shapes.append(tuple(images.shape))
        return images.float().mean((2, 3)) @ torch.ones(3, 5)

    batch = DomainBatch(TinyBatch(torch.zeros(6, 3, 8, 12, dtype=torch.uint8)), torch.zeros(3, 3, 4, 4).byte(), 0.5)
    mode.loss(forward, batch, seeded(0))
    assert shapes == [(6, 3, 8, 12), (3, 3, 8, 12)]


def test_optimisers_and_classifier_are_trained_with_the_network(folder: Path, tmp_path: Path) -> None:
    mode = make_mode(folder)
    first = {key: value.clone() for key, value in mode.adversary.state_dict().items()}
    _, with_it = run_tiny(tmp_path / "with", mode=mode)
    _, without = run_tiny(tmp_path / "without")
    assert not states_equal(with_it, without)
    assert not any(torch.equal(value, first[key]) for key, value in mode.adversary.state_dict().items())
    assert mode.optimizers(0) == (mode.optimizer,)
    assert "domain classifier with 9 target images" in mode.summary() and "tiny" in mode.summary()


def test_an_interrupted_run_ends_as_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    mode = make_mode(folder)
    _, whole = run_tiny(tmp_path / "whole", mode=mode)

    class InterruptedRunError(Exception):
        pass

    def stop(epoch: int, index: int, step: int) -> None:
        if (epoch, index, step) == (1, 2, 2):
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        run_tiny(tmp_path / "cut", mode=make_mode(folder, TinyMode(stop)))
    torch.manual_seed(77)
    resumed_mode = make_mode(folder)
    _, resumed = run_tiny(tmp_path / "cut", mode=resumed_mode, resume=True)
    assert states_equal(whole, resumed) and states_equal(mode.adversary, resumed_mode.adversary)


def test_a_checkpoint_without_or_with_another_classifier_is_refused(folder: Path) -> None:
    mode = make_mode(folder)
    with pytest.raises(UserError, match=r"--grl_folder .*no such domain classifier"):
        mode.load_state_dict(TinyMode().state_dict())
    with pytest.raises(UserError, match="--grl_hidden"):
        mode.load_state_dict(make_mode(folder, grl_hidden=9).state_dict())
    changed = make_mode(folder, grl_lr=0.5)
    changed.load_state_dict(mode.state_dict())
    assert changed.optimizer.param_groups[0]["lr"] == 0.5


def test_no_folder_no_classifier(folder: Path, tmp_path: Path) -> None:
    inner, data = TinyMode(), DataOptions(resize=(4, 4), num_workers=0)
    assert with_domain(inner, DomainOptions(), recipe_with(data, descriptors_dim=5)) is inner
    wrapped = with_domain(inner, options(folder), recipe_with(data, descriptors_dim=5))
    assert isinstance(wrapped, DomainMode) and wrapped.rounds_per_epoch == tiny_training.OPTIONS.rounds_per_epoch
    with pytest.raises(UserError, match="--grl_folder"):
        with_domain(inner, options(tmp_path / "none"), recipe_with(data, descriptors_dim=5))


@pytest.mark.parametrize(
    ("name", "value"),
    [("grl_weight", -1.0), ("grl_weight", float("nan")), ("grl_batch_size", 0), ("grl_ramp_epochs", -1.0),
     ("grl_lr", float("inf")), ("grl_hidden", 0)],
)  # fmt: skip
def test_impossible_values_name_their_option(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--{name}"):
        DomainOptions(**{name: value})


def test_the_job_trains_against_a_domain_classifier(
    call: Callable[..., tuple[int, str, str]], pristine_dataset: Path, folder: Path, tmp_path: Path
) -> None:
    from calls import TRAINING, of

    run = tmp_path / "run"
    arguments = (*of(pristine_dataset), *TRAINING, f"--run_dir={run}", f"--grl_folder={folder}", "--grl_batch_size=2")
    extras = ("--night=0.5", "--multi_resolution", "1", "0.5", "--rand_augment", "1", "9", f"--fda_folder={folder}")
    status, out, err = call("train.py", *arguments, *extras)
    assert status == 0, err
    assert "domain classifier with 9 target images" in out
    state = torch.load(run / "last_model.pth", weights_only=True)["mode_state"]
    assert {"mode", "adversary", "adversary_optimizer"} <= state.keys()
    assert "night: 0.5" in (run / "config.yaml").read_text()
