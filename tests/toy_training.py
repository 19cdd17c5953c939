"""A problem that can be learnt in a second: descriptors that a fixed other network gives to images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tiny_training import TinyBatch
from torch import Tensor, nn

from vgbench.randomness import torch_stream
from vgbench.training import EpochRecalls

STEPS = 60


def images_of(*place: str | int, steps: int = 1) -> Tensor:
    return torch.randint(0, 256, (steps, 8, 3, 2, 2), generator=torch_stream(0, *place), dtype=torch.uint8)


class Toy(nn.Module):
    """Images [B,3,2,2] to [B,4]."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(12, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.out((images.float() / 127.5 - 1).flatten(1))


def toy_network(seed: int = 0) -> Toy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Toy()


TEACHER = toy_network(seed=1)


def error(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.no_grad():
        wanted = TEACHER(images)
    return (forward(images) - wanted).square().mean()


class ToyMode:
    """One round an epoch; the loss is the distance to the teacher's descriptors."""

    rounds_per_epoch = 1

    def __init__(self, optimizers: tuple[torch.optim.Optimizer, ...] = ()) -> None:
        self.own = optimizers

    def round(self, network: nn.Module, epoch: int, index: int) -> list[TinyBatch]:
        return [TinyBatch(batch) for batch in images_of("toy", epoch, index, steps=STEPS)]

    def loss(self, forward: Callable[[Tensor], Tensor], batch: TinyBatch, generator: torch.Generator) -> Tensor:
        return error(forward, batch.images)

    def optimizers(self, epoch: int) -> tuple[torch.optim.Optimizer, ...]:
        return self.own

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass

    def summary(self) -> str:
        return "toy"


@torch.no_grad()
def toy_recall(network: nn.Module, epoch: int) -> EpochRecalls:
    """The negative error on images that were not trained on, in the place of a recall."""
    value = -float(error(network, images_of("unseen", steps=4).flatten(0, 1)))
    return EpochRecalls({1: value, 5: value})
