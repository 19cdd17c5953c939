"""Images per second in a training step, beside the same step in plain float32 eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from perf.measure import Pair, Partner, in_turn, pair_of
from vgbench.data import TripletBatch
from vgbench.models import Network, build_network
from vgbench.runtime import Runtime
from vgbench.training.losses.triplet import TripletLoss
from vgbench.training.optimisation.step import Stepper, set_training

TRIPLETS, NEGATIVES = 4, 10
IMAGES = TRIPLETS * (2 + NEGATIVES)


class _Triplets:
    """The least that a training mode must do: the triplet loss of a batch."""

    rounds_per_epoch = 1

    def __init__(self) -> None:
        self.criterion = TripletLoss(margin=0.1)

    def loss(self, forward: object, batch: TripletBatch, generator: torch.Generator) -> Tensor:
        descriptors = forward(batch.images)  # type: ignore[operator]
        total: Tensor = self.criterion(
            descriptors[batch.query], descriptors[batch.positive], descriptors[batch.negatives]
        )
        return total / batch.negatives.numel()


class Step:
    """Our training step of one batch, again and again."""

    def __init__(self, runtime: Runtime, backbone: str, aggregation: str, size: tuple[int, int]) -> None:
        roles = torch.arange(IMAGES).view(TRIPLETS, 2 + NEGATIVES)
        nothing = torch.zeros(IMAGES, dtype=torch.bool)
        self.batch = TripletBatch(_pixels(size), nothing, roles[:, 0], roles[:, 1], roles[:, 2:])
        self.network = build_network(backbone, aggregation, pretrain="none")
        runtime.prepare(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-5)
        set_training(self.network, freeze_bn=True)
        self.stepper, self.mode, self.generator = Stepper(self.network, runtime), _Triplets(), torch.Generator()

    def __call__(self) -> float:
        """Take a step; returns its loss."""
        loss = self.stepper.backward(self.mode, self.batch, self.generator)  # type: ignore[arg-type]
        self.stepper.update([self.optimizer])
        return loss.item()


def measure(runtime: Runtime, backbone: str, aggregation: str, size: tuple[int, int], rounds: int) -> Pair:
    """Compare `training.Stepper` with float images, eager float32 and a loop over the negatives in the loss."""
    ours = Step(runtime, backbone, aggregation, size)
    with Partner(plain_trainer, backbone, aggregation, size, runtime.device.type) as reference:
        times = in_turn(ours, reference, rounds)
    what = f"train step, {backbone} + {aggregation}, {size[0]}x{size[1]}, {TRIPLETS} triplets of {2 + NEGATIVES}"
    return pair_of(what, "images/s", *times, IMAGES)


def plain_trainer(backbone: str, aggregation: str, size: tuple[int, int], device: str) -> Callable[[], float]:
    """Return a step of a straightforward script with the same network."""
    network = build_network(backbone, aggregation, pretrain="none").to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    set_training(network, freeze_bn=True)
    pixels = _pixels(size)
    return lambda: plain_step(network, optimizer, pixels.to(device))


def _pixels(size: tuple[int, int]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (IMAGES, 3, *size), dtype=np.uint8))


def plain_step(network: Network, optimizer: torch.optim.Optimizer, pixels: Tensor) -> float:
    """One step as a straightforward script takes it."""
    criterion = nn.TripletMarginLoss(margin=0.1, p=2, reduction="sum")
    descriptors = network((pixels.float() / 255 - network.mean) / network.std)
    loss = torch.zeros((), device=pixels.device)
    for triplet in descriptors.view(TRIPLETS, 2 + NEGATIVES, -1):
        for negative in range(NEGATIVES):
            loss = loss + criterion(triplet[:1], triplet[1:2], triplet[2 + negative : 3 + negative])
    loss = loss / (TRIPLETS * NEGATIVES)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()
