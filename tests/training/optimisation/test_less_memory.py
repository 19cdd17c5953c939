"""Activations computed again, and a gradient cache: the same gradients, statistics and random numbers."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import on_ranks
from recipes import gradients_of_one_and_two, network_of, recipe_of
from torch import Tensor, nn

from vgbench import parallel
from vgbench.data.augment import AugmentOptions
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.runtime import Runtime
from vgbench.training import TrainOptions
from vgbench.training.losses.metric import build_metric_loss
from vgbench.training.modes.table import build_mode
from vgbench.training.optimisation.grad_cache import GradCache
from vgbench.training.optimisation.recompute import blocks_of, recomputing
from vgbench.training.optimisation.step import Memory, Stepper, set_training
from vgbench.training.optimisation.synced_norm import synchronise_norms


class Batch:
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def to(self, device: torch.device) -> Batch:
        return Batch(self.images.to(device))


class Places:
    """Batches of places of two images, by MultiSimilarity without a miner."""

    def __init__(self) -> None:
        self.criterion = build_metric_loss("MultiSimilarity", (), None, places=0, dim=0)

    def loss(self, forward, batch: Batch, generator: torch.Generator) -> Tensor:
        descriptors = nn.functional.normalize(forward(batch.images), dim=1)
        return self.criterion(descriptors, torch.arange(len(descriptors)) // 2)


def images(count: int, size: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def after_a_step(network: nn.Module, memory: Memory, runtime: Runtime, batch: Tensor) -> tuple[nn.Module, float]:
    network = copy.deepcopy(network)
    torch.manual_seed(5)
    stepper = Stepper(network, runtime, memory=memory)
    loss = stepper.backward(Places(), Batch(batch), torch.Generator())
    assert stepper.images == len(batch)
    return network, float(loss)


def assert_same(one: nn.Module, other: nn.Module, **close: float) -> None:
    for (name, expected), found in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (expected.grad is None) == (found.grad is None), name
        if expected.grad is not None:
            torch.testing.assert_close(
                found.grad, expected.grad, msg=lambda text, name=name: f"{name}: {text}", **close
            )
    for (name, expected), found in zip(one.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(found, expected, msg=lambda text, name=name: f"{name}: {text}", **close)


@pytest.mark.parametrize(
    "runtime", [Runtime(), Runtime(amp_dtype=torch.bfloat16, channels_last=True)], ids=["f32", "bf16"]
)
@pytest.mark.parametrize(
    ("backbone", "size", "blocks"),
    [("resnet18conv4", 64, 6), ("efficientnet_lite0_s16", 64, 11), ("dinov2_vits14", 56, 12)],
)
def test_activations_computed_again_give_the_same_step(backbone: str, size: int, blocks: int, runtime: Runtime) -> None:
    network = build_network(backbone=backbone, aggregation="gem", pretrain="none")
    set_training(network, freeze_bn=False)
    assert len(blocks_of(network.backbone, backbone)) == blocks
    plain, loss = after_a_step(network, Memory(), runtime, images(4, size))
    again, same = after_a_step(network, Memory(checkpoint_activations=True), runtime, images(4, size))
    assert loss == same
    assert_same(plain, again, rtol=0, atol=0)
    assert "forward" not in vars(blocks_of(again.backbone, backbone)[0])


class Counting(nn.Module):
    """A backbone of two blocks with dropout and BatchNorm, which counts how often they run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.layers = nn.Sequential(*[_Block(self) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found


class _Block(nn.Module):
    def __init__(self, owner: Counting) -> None:
        super().__init__()
        self.count = lambda: setattr(owner, "calls", owner.calls + 1)
        self.one, self.norm, self.drop, self.two = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        found: Tensor = x + self.two(self.drop(self.norm(self.one(x)).relu()))
        return found


def test_blocks_run_twice_and_their_activations_are_not_kept() -> None:
    torch.manual_seed(0)
    trunk, x = Counting(), torch.randn(8, 6, requires_grad=True)

    def kept(again: bool) -> int:
        sizes: list[int] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda v: sizes.append(v.numel()) or v, lambda v: v)
        with hooks, recomputing(trunk.layers if again else [], torch.enable_grad):
            trunk(x)
        return sum(sizes)

    assert kept(False) > 0 and kept(True) < kept(False)
    trunk.calls = 0
    with recomputing(trunk.layers, torch.enable_grad):
        loss = trunk(x).sum()
    loss.backward()
    assert trunk.calls == 4


def test_a_backbone_without_blocks_is_refused() -> None:
    with pytest.raises(UserError, match=r"--checkpoint_activations: alexnet has no blocks"):
        blocks_of(build_network(backbone="alexnet", aggregation="gem", pretrain="none").backbone, "alexnet")


@pytest.mark.parametrize("chunk", [1, 3, 5, 100])
def test_a_gradient_cache_has_the_gradients_of_the_whole_batch(chunk: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 4)).double()
    batch = torch.randn(11, 3, 2, 2, dtype=torch.float64)

    def loss_of(descriptors: Tensor) -> Tensor:  # of all pairs
        return (descriptors @ descriptors.T).exp().mean()

    loss_of(network(batch)).backward()
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    cache = GradCache(network, network, chunk)
    loss_of(cache.describe(batch)).backward()
    cache.backward()
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-14)


def test_a_gradient_cache_drops_the_same_units_in_both_passes() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    batch, weights = torch.randn(6, 6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    seen: list[Tensor] = []

    def forward(x: Tensor) -> Tensor:
        found: Tensor = network(x)
        seen.append(found.detach())
        return found

    cache = GradCache(forward, network, 4)
    (cache.describe(batch) @ weights).square().sum().backward()
    drawn = torch.rand(1)
    torch.manual_seed(1)
    cache.backward()
    assert len(seen) == 4 and torch.equal(torch.cat(seen[:2]), torch.cat(seen[2:]))
    torch.manual_seed(1)
    assert not torch.equal(drawn, torch.rand(1))


def test_a_step_in_chunks_is_the_batches_where_batch_norm_is_frozen() -> None:
    network = build_network(backbone="resnet18conv4", aggregation="gem", pretrain="none")
    set_training(network, freeze_bn=True)
    whole, loss = after_a_step(network, Memory(), Runtime(), images(6))
    parts, same = after_a_step(network, Memory(grad_cache_chunk=2), Runtime(), images(6))
    assert same == pytest.approx(loss, rel=1e-5)
    assert_same(whole, parts, rtol=1e-3, atol=1e-5)
    both, _ = after_a_step(network, Memory(True, 2), Runtime(), images(6))
    assert_same(parts, both, rtol=0, atol=0)


def test_batch_norm_of_chunks_follows_once() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4))
    expected, batch = copy.deepcopy(network), torch.randn(8, 3, 2, 2)
    for part in batch.split(4):
        expected(part)
    cache = GradCache(network, network, 4)
    cache.describe(batch).sum().backward()
    cache.backward()
    torch.testing.assert_close(network[2].running_mean, expected[2].running_mean)
    assert network[2].num_batches_tracked == 2 and network[2].momentum == 0.1


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@forks
@pytest.mark.parametrize(("kind", "chunk"), [("places", 4), ("triplets", 3)])
def test_a_gradient_cache_on_two_ranks_is_one_process_with_the_whole_batch(
    kind: str, chunk: int, tiny_dataset: Path, tmp_path: Path
) -> None:
    def made(share: int) -> tuple[Any, Any]:
        training = TrainOptions(
            train_mode=kind, queries_per_epoch=8, cache_refresh_rate=8, neg_samples_num=10, negs_num_per_query=2,
            train_batch_size=4 // share, margin=10.0,
        )  # fmt: skip
        # What is drawn of images is drawn for each rank apart.
        recipe = recipe_of(tiny_dataset, kind, training=training, augmentation=AugmentOptions())
        places = dataclasses.replace(recipe.places, places_per_batch=4 // share)
        return build_mode(dataclasses.replace(recipe, places=places)), network_of()

    whole, found = gradients_of_one_and_two(made, tmp_path, chunk)
    assert found.keys() == whole.keys() and len(whole) > 10
    for name, value in whole.items():
        assert value.abs().max() > 0, name
        torch.testing.assert_close(found[name], value, atol=1e-5 * float(value.abs().max()), rtol=1e-3)


def _normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))


def _cached_gradients(network: nn.Module, batch: Tensor, chunk: int, weight: float, path: Path | None = None) -> Any:
    """The gradients of sum((weight * descriptors)^3) over all ranks, and BatchNorm's statistics."""
    cache = GradCache(network, network, chunk)
    described = cache.describe(batch)
    loss = described.pow(3).sum() * weight if weight else torch.zeros((), requires_grad=True)
    loss.backward()
    cache.backward()
    parallel.all_reduce_gradients(network.parameters())
    found = [value.grad.clone() for value in network.parameters()] + [value.clone() for value in network.buffers()]
    if path is not None and parallel.is_main():
        torch.save(found, path)
    return found


@forks
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.0)], ids=["both", "one rank's loss does without its images"])
def test_chunks_of_two_ranks_share_their_statistics(weights: tuple[float, float], tmp_path: Path) -> None:
    images = torch.randn(12, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    own = (images[:7], images[7:])  # which makes three chunks of each, where the second alone would have two

    def work(rank: int) -> None:
        network = _normed()
        synchronise_norms(network)
        _cached_gradients(network, own[rank], 3, weights[rank], tmp_path / "two.pt")

    statuses, said = on_ranks(2, work, tmp_path)
    assert statuses == [0, 0], said
    # One process, whose chunks are those of both ranks together.
    network, chunks = _normed(), [rows.tensor_split(3) for rows in own]
    described = [network(torch.cat(pair)) for pair in zip(*chunks, strict=True)]
    loss = sum(
        rows.pow(3).sum() * weight
        for whole, *pair in zip(described, *chunks, strict=True)
        for rows, weight in zip(whole.split([len(one) for one in pair]), weights, strict=True)
    )
    assert isinstance(loss, Tensor)
    loss.backward()
    expected = [value.grad for value in network.parameters()] + list(network.buffers())
    for found, wanted in zip(torch.load(tmp_path / "two.pt", weights_only=True), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
