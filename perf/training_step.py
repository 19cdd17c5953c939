"""Images a second in a training step, beside the same step in plain float32 eager PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from perf.measure import Pair, in_turn, pair_of
from vgbench.data import TripletBatch
from vgbench.models import Network, build_network
from vgbench.runtime import Runtime
from vgbench.training.losses.triplet import TripletLoss
from vgbench.training.step import Stepper, set_training

TRIPLETS, NEGATIVES = 4, 10


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


def measure(runtime: Runtime, backbone: str, aggregation: str, size: tuple[int, int], rounds: int) -> Pair:
    """Compare `training.Stepper` with float images, eager float32 and a loop over the negatives in the loss."""
    images = TRIPLETS * (2 + NEGATIVES)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (images, 3, *size), dtype=np.uint8))
    roles = torch.arange(images).view(TRIPLETS, 2 + NEGATIVES)
    batch = TripletBatch(pixels, torch.zeros(images, dtype=torch.bool), roles[:, 0], roles[:, 1], roles[:, 2:])
    networks = [build_network(backbone, aggregation, pretrain="none") for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    runtime.place(networks[0])
    networks[1].to(runtime.device)
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-5) for network in networks]
    for network in networks:
        set_training(network, freeze_bn=True)
    stepper, mode, generator = Stepper(networks[0], runtime), _Triplets(), torch.Generator()

    def ours() -> float:
        return float(stepper.step(mode, batch, [optimizers[0]], generator))  # type: ignore[arg-type]

    times = in_turn(ours, lambda: plain_step(networks[1], optimizers[1], pixels.to(runtime.device)), rounds)
    what = f"train step, {backbone} + {aggregation}, {size[0]}x{size[1]}, {TRIPLETS} triplets of {images // TRIPLETS}"
    return pair_of(what, "images/s", *times, images)


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
    return float(loss)
