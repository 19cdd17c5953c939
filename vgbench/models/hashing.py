"""A learned hashing branch: a descriptor's code of bits, by which it is searched (SelaVPR++: Lu et al., 2025).

A bit is the sign of a linear projection of the descriptor, centred and scaled by the mean and variance that it has over
the training images, so that each bit is 1 for about half of them. Signs have no gradient: theirs is handed to the
values as it is (straight through; Bengio et al., 2013).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.layers import full_precision
from vgbench.models.network import HASH_BITS, HASHING, Network

_MOMENTUM, _EPS = 0.05, 1e-5


def straight_through_sign(values: Tensor) -> Tensor:
    """Return 1 where values [...] are 0 or more, else -1; the gradient of the signs is that of the values."""
    signs = torch.where(values >= 0, 1.0, -1.0).to(values.dtype)
    return values + (signs - values).detach()


class HashingBranch(nn.Module):
    """Descriptors float32 [B,D] to codes [B,bits] of -1 and 1.

    Attributes:
        mean, variance: [bits], of the projections, running averages over training batches.
        steps: how many batches they have seen.
    """

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, dim: int, bits: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, bits, bias=False)
        nn.init.orthogonal_(self.projection.weight)
        self.register_buffer("mean", torch.zeros(bits))
        self.register_buffer("variance", torch.ones(bits))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def bits(self) -> int:
        """How many bits a code has."""
        return int(self.projection.out_features)

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return the codes; in training, of the batch's own mean and variance, which the running ones follow."""
        with full_precision(descriptors):
            values = F.linear(descriptors.float(), self.projection.weight)
            mean, variance = self.mean, self.variance
            if self.training and len(values) > 1:
                mean, variance = values.mean(0), values.var(0, unbiased=False)
                self._follow(mean.detach(), variance.detach())
            return straight_through_sign((values - mean) * (variance + _EPS).rsqrt())

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.steps += 1
        share = max(_MOMENTUM, 1 / int(self.steps))
        self.mean.lerp_(mean, share)
        self.variance.lerp_(variance, share)

    @torch.no_grad()
    def thresholds(self) -> dict[str, NDArray[np.float32]]:
        """Return `weight` [bits,D] and `bias` [bits], float32: a bit is 1 where weight . descriptor + bias >= 0."""
        weight = self.projection.weight.detach().float().cpu()
        return {"weight": weight.numpy().copy(), "bias": (-self.mean).float().cpu().numpy().copy()}


def attach_hashing(network: Network, bits: int) -> HashingBranch:
    """Give a network a hashing branch, untrained, and return it; checkpoints then carry its weights.

    Raises:
        UserError: it has one of another number of bits.
    """
    found = hashing_of(network)
    if found is None:
        device = next(network.parameters()).device
        found = HashingBranch(network.descriptors_dim, bits).to(device).train(network.training)
        network.hashing = found
        network.config[HASH_BITS] = bits
    if found.bits != bits:
        raise UserError(
            f"--hash_bits {bits}: the network has codes of {found.bits} bits. Expected the same; leave it out"
        )
    return found


def hashing_of(network: Any) -> HashingBranch | None:
    """Return a network's hashing branch, None where it has none."""
    found = getattr(network, HASHING, None)
    return found if isinstance(found, HashingBranch) else None
