"""A domain classifier behind a gradient reversal (Ganin and Lempitsky, 2015; AdAGeo: Berton et al., 2021)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.randomness import stream_seed
from vgbench.training.modes.domain_options import DomainOptions as DomainOptions

RAMP = 10.0  # how steeply the reversed gradient grows, the paper's gamma


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * -ctx.factor, None


def reverse_gradient(values: Tensor, factor: float) -> Tensor:
    """Return the values [...] as they are; what comes back through them as a gradient is multiplied by -factor."""
    reversed_: Tensor = _Reversal.apply(values, factor)
    return reversed_


def ramp(progress: float) -> float:
    """Return the paper's 2 / (1 + exp(-10 p)) - 1, which grows from 0 to 1 as p does; constant after p = 1."""
    return 2 / (1 + math.exp(-RAMP * min(max(progress, 0.0), 1.0))) - 1


class DomainAdversary(nn.Module):
    """Tells source from target descriptors, while the network that made them learns that they cannot be told apart.

    Args:
        dim: D, dimensions of the descriptors.
        weight: of the gradient that the network receives; the classifier itself learns at full weight.
        hidden: channels of its two hidden layers.
        seed: of its first weights.
    """

    def __init__(self, dim: int, *, weight: float = 0.1, hidden: int = 256, seed: int = 0) -> None:
        super().__init__()
        self.weight = weight
        self.scale = math.sqrt(dim)  # descriptors have length 1: this gives their elements a variance of about 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "domain classifier"))
            self.layers = nn.Sequential(
                nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
            )

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return how much each of float32 [B,D] looks like a target's: logits [B]."""
        logits: Tensor = self.layers(descriptors * self.scale).squeeze(1)
        return logits

    def loss(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Return the cross-entropy of the two domains, both of the same weight whatever their numbers.

        Args:
            source: float32 [B,D], descriptors of training images.
            target: float32 [T,D], descriptors of target images.
            progress: how far the ramp of the reversed gradient has come, 0 to 1.
        """
        factor = self.weight * ramp(progress)
        logits = self(reverse_gradient(torch.cat([source, target]), factor))
        of_source, of_target = logits[: len(source)], logits[len(source) :]
        return (F.softplus(of_source).mean() + F.softplus(-of_target).mean()) / 2
