"""Synchronised BatchNorm on two ranks, which here are threads that share their sums, against one norm of all images."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from vgbench import parallel
from vgbench.training.optimisation.synced_norm import synchronise_norms


class Ranks:
    """Two threads as two ranks: sums are of both, in one graph, so that gradients flow as they do between processes."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=20)
        self.slots: dict[int, Tensor] = {}
        self.own = threading.local()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        self.slots[self.own.rank] = tensor
        self.barrier.wait()
        total = self.slots[0] + self.slots[1]
        self.barrier.wait()
        return total

    def run(self, works: list[Callable[[], Tensor]]) -> list[Tensor]:
        def work(rank: int) -> Tensor:
            self.own.rank = rank
            return works[rank]()

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(work, (0, 1)))


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    found = Ranks()
    monkeypatch.setattr(parallel, "world", lambda: 2)
    monkeypatch.setattr(parallel, "all_reduce", found.all_reduce)
    return found


def act2d() -> nn.Module:
    """timm's layer, its activation as most of its networks have it: in place."""
    return pytest.importorskip("timm.layers.norm_act").BatchNormAct2d(5, act_layer=nn.SiLU, drop_layer=Halved)


class Halved(nn.Module):
    """A drop that draws nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.BatchNorm1d(5), ()),
        (lambda: nn.BatchNorm1d(5, momentum=None), (7,)),
        (lambda: nn.BatchNorm1d(5, affine=False), ()),
        (lambda: nn.BatchNorm2d(5), (3, 4)),
        (act2d, (3, 4)),
    ],
    ids=["1d", "1d of rows", "1d without weights", "2d", "timm"],
)
def test_two_ranks_are_one_with_all_images(ranks: Ranks, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = 2 + 3 * torch.randn(6, 5, *shape, generator=generator)
    aims = torch.randn(6, 5, *shape, generator=generator)
    whole = nn.Sequential(make())
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.uniform_(0.5, 2, generator=generator)
    parts = [copy.deepcopy(whole) for _ in range(2)]
    for part in parts:
        synchronise_norms(part)

    inputs = images.clone().requires_grad_()
    expected = whole(inputs)
    own = [images[:2].clone().requires_grad_(), images[2:].clone().requires_grad_()]
    found = torch.cat(ranks.run([lambda: parts[0](own[0]), lambda: parts[1](own[1])]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for part in parts:
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(part.get_buffer(name), buffer, atol=1e-5, rtol=1e-5)

    (expected * aims).sum().backward()
    (found * aims).sum().backward()
    assert inputs.grad is not None and own[0].grad is not None and own[1].grad is not None
    torch.testing.assert_close(torch.cat([own[0].grad, own[1].grad]), inputs.grad, atol=1e-4, rtol=1e-4)
    for one, other, together in zip(*(part.parameters() for part in (*parts, whole)), strict=True):
        assert one.grad is not None and other.grad is not None and together.grad is not None
        torch.testing.assert_close(one.grad + other.grad, together.grad, atol=1e-4, rtol=1e-4)

    for part in (*parts, whole):
        part.eval()
    with torch.no_grad():  # no rank waits for another
        torch.testing.assert_close(parts[0](images), whole(images), atol=1e-5, rtol=1e-5)


class Strange(nn.BatchNorm2d):
    """A layer of somebody else's, which may compute anything."""


def test_what_is_not_synchronised_is_named_once(ranks: Ranks, caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(Strange(2), nn.BatchNorm3d(2), nn.BatchNorm3d(2), nn.BatchNorm1d(2), nn.SyncBatchNorm(2))
    with caplog.at_level(logging.WARNING):
        synchronise_norms(network)
        [record] = caplog.records
        message = record.getMessage()
        assert "test_synced_norm.Strange" in message and message.count("BatchNorm3d") == 1
        assert "BatchNorm1d" not in message and "SyncBatchNorm" not in message
        assert type(network[0]) is Strange and type(network[3]) is not nn.BatchNorm1d
        caplog.clear()
        known = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm2d(2))
        for _ in range(2):
            synchronise_norms(known)
        assert not caplog.records


def test_one_rank_changes_nothing() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    synchronise_norms(network)
    assert type(network[0]) is nn.BatchNorm2d
