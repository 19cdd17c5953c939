"""A training run small enough for tests, with dropout, BatchNorm, a mode with memory, and faults on demand.

Run as a script it trains in the folder given, resuming from its last_model.pth where there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vgbench.randomness import torch_stream
from vgbench.runtime import Runtime
from vgbench.training import Checkpoints, EpochRecalls, LoopResult, MetricsLogger, Run, TrainOptions, train

OPTIONS = TrainOptions(epochs_num=3, queries_per_epoch=3, cache_refresh_rate=1, lr=1e-2, patience=2)


class TinyNetwork(nn.Module):
    """Images [B,3,4,4] -> descriptors [B,5], with everything that makes a resume hard."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(24, 5)

    def forward(self, images: Tensor) -> Tensor:
        map_ = torch.relu(self.norm(self.conv(images.float() / 255)))
        return nn.functional.normalize(self.out(self.drop(map_.flatten(1))), dim=1)


def tiny_network(seed: int = 0) -> TinyNetwork:
    torch.manual_seed(seed)
    return TinyNetwork()


@dataclass
class TinyBatch:
    images: Tensor

    def to(self, device: torch.device) -> TinyBatch:
        return TinyBatch(self.images.to(device))


class TinyMode:
    """Batches that depend on the weights (as mining does) and on a memory that grows with every round.

    Args:
        on_loss: called with (epoch, round, step) at each step; may raise, or return a factor of the loss.
    """

    rounds_per_epoch = OPTIONS.rounds_per_epoch
    steps = 4

    def __init__(self, on_loss: Callable[[int, int, int], float | None] = lambda *_: None, seed: int = 0) -> None:
        self.on_loss, self.seed = on_loss, seed
        self.memory = torch.zeros(())
        self.rounds: list[tuple[int, int]] = []
        self.at = (0, 0)
        self.step = 0

    def round(self, network: nn.Module, epoch: int, index: int) -> list[TinyBatch]:
        network.eval()
        torch.rand(len(self.rounds))  # a round may draw from the global generators, as often as it likes
        generator = torch_stream(self.seed, "tiny", epoch, index)
        images = torch.randint(0, 256, (self.steps, 6, 3, 4, 4), generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            hardest = network(images.flatten(0, 1)).sum(1).view(self.steps, 6)
        self.memory = self.memory * 0.5 + hardest.mean()
        self.rounds.append((epoch, index))
        self.at, self.step = (epoch, index), 0
        return [TinyBatch(batch[scores.argsort()]) for batch, scores in zip(images, hardest, strict=True)]

    def loss(self, forward: Callable[[Tensor], Tensor], batch: TinyBatch, generator: torch.Generator) -> Tensor:
        factor = self.on_loss(*self.at, self.step)
        self.step += 1
        noise = torch.rand((), generator=generator)
        descriptors = forward(batch.images)
        loss = (descriptors[:3] - descriptors[3:]).square().mean() + 0.1 * (self.memory + noise) * descriptors.sum()
        return loss if factor is None else loss * factor

    def optimizers(self, epoch: int) -> tuple[torch.optim.Optimizer, ...]:
        return ()

    def state_dict(self) -> dict[str, Tensor]:
        return {"memory": self.memory}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.memory = state["memory"]

    def summary(self) -> str:
        return "tiny"


def weight_recall(network: nn.Module, epoch: int) -> EpochRecalls:
    """A 'recall' that depends on the weights, so that a wrong resume shows."""
    torch.rand(3)  # a validation may use global random numbers
    value = float(network.out.weight.detach().abs().sum()) % 1
    return EpochRecalls({1: value, 5: 10.0 * epoch + value})


def run_tiny(
    folder: Path,
    *,
    mode: TinyMode | None = None,
    resume: bool = False,
    options: TrainOptions = OPTIONS,
    validate: Callable[[nn.Module, int], EpochRecalls] = weight_recall,
    runtime: Runtime | None = None,
    network: nn.Module | None = None,
    tensorboard: bool = False,
    checkpoints: Checkpoints | None = None,
) -> tuple[LoopResult, nn.Module]:
    """Train in `folder`; with `resume`, from its last_model.pth and from other initial weights."""
    folder.mkdir(exist_ok=True)
    network = network or tiny_network(seed=99 if resume else 0)
    checkpoints = checkpoints or Checkpoints(folder, {"backbone": "tiny"}, {"lr": options.lr})
    with MetricsLogger(folder, tensorboard=tensorboard) as watch:
        result = train(
            network,
            mode or TinyMode(),
            validate,
            options,
            runtime or Runtime(),
            Run(checkpoints, watch, 0, checkpoints.last if resume else None),
        )
    return result, network


def states_equal(one: nn.Module, other: nn.Module) -> bool:
    """Bit for bit."""
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


if __name__ == "__main__":
    import time

    torch.set_num_threads(1)
    target = Path(sys.argv[1])

    def slowly(*_: int) -> None:
        time.sleep(float(sys.argv[2]))

    run_tiny(target, mode=TinyMode(slowly), resume=(target / "last_model.pth").exists())
