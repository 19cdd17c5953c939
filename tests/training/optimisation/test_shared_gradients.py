"""Gradients that are added in buckets during backward, against their plain sum over the ranks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
from torch import Tensor, multiprocessing, nn

from vgbench import parallel
from vgbench.training.optimisation.shared_gradients import SharedGradients

RANKS, PARTS = 2, 3


class Net(nn.Module):
    """With a parameter that no call uses, as a ViT's mask token, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 3)
        self.unused = nn.Parameter(torch.ones(2))
        self.first.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(images).tanh())
        return result


def made() -> tuple[Net, nn.Linear]:
    torch.manual_seed(3)
    return Net().double(), nn.Linear(3, 2).double()  # a network, and a classifier of the mode's own


def images(rank: int, part: int) -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(10 * rank + part), dtype=torch.float64)


def gradients(overlap: bool, steps: int = 2) -> list[dict[str, Tensor]]:
    """The gradients of each of several steps, none of which changes the weights."""
    network, classifier = made()
    shared = SharedGradients(network, network, overlap)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in (network, classifier)]
    found = []
    for _ in range(steps):
        for part in range(PARTS):
            with shared.part(last=part == PARTS - 1):
                # Twice in one loss, as with a domain's images.
                seen = shared(images(parallel.rank(), part)) + shared(images(parallel.rank(), part + 50))
                classifier(seen).square().sum().backward()
        for optimizer in optimizers:
            shared.add_the_rest(optimizer)
        shared.step_over()
        named = [*network.named_parameters(), *classifier.named_parameters(prefix="classifier")]
        found.append({name: value.grad.clone() for name, value in named if value.grad is not None})
        for optimizer in optimizers:
            optimizer.zero_grad()
    return found


def work(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    torch.set_num_threads(1)
    parallel.start(torch.device("cpu"))
    torch.save([gradients(overlap=False), gradients(overlap=True)], Path(folder) / f"{rank}.pt")
    parallel.stop()


def expected() -> dict[str, Tensor]:
    network, classifier = made()
    for rank in range(RANKS):
        for part in range(PARTS):
            seen = network(images(rank, part)) + network(images(rank, part + 50))
            classifier(seen).square().sum().backward()
    named = [*network.named_parameters(), *classifier.named_parameters(prefix="classifier")]
    return {name: value.grad for name, value in named if value.grad is not None}


def test_both_ways_give_the_sum_over_ranks_and_parts(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=RANKS)
    whole = expected()
    assert "unused" not in whole and "first.bias" not in whole and "classifier.weight" in whole
    for rank in range(RANKS):
        for way in torch.load(tmp_path / f"{rank}.pt", weights_only=True):
            for step in way:
                assert step.keys() == whole.keys()
                for name, value in whole.items():
                    torch.testing.assert_close(step[name], value)


def test_one_rank_only_calls() -> None:
    network, _ = made()
    shared = SharedGradients(network, network)
    with shared.part(last=False):
        shared(images(0, 0)).sum().backward()
    before = network.second.weight.grad
    shared.add_the_rest(torch.optim.SGD(network.parameters(), lr=0.1))
    assert before is not None and network.second.weight.grad is before
