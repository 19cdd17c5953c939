"""Several networks as one: their descriptors side by side, or averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models.network import CompositeTrunk, Network
from vgbench.models.options import COMBINATIONS as COMBINATIONS
from vgbench.models.release_kinds import WholeDescriptor


class EnsembleTrunk(CompositeTrunk):
    """Pixels [B,3,H,W] in 0..1 to one L2-normalised descriptor [B,D] of all members.

    With `concat`, the similarity of two images is the weighted mean of the members' similarities.

    Args:
        members: the networks.
        combine: "concat", D is the sum of the members'; or "mean", which wants equal dimensions.
        weights: of each member, at least 0; only their ratios count.
    """

    def __init__(self, members: Sequence[Network], combine: str, weights: Sequence[float]) -> None:
        super().__init__(members)
        self.combine = combine
        total = sum(weights)
        shares = [weight / total for weight in weights]
        self.factors = [math.sqrt(share) if combine == "concat" else share for share in shares]
        dims = [member.descriptors_dim for member in members]
        self.out_channels = sum(dims) if combine == "concat" else dims[0]

    def forward(self, pixels: Tensor) -> Tensor:
        parts = [part * factor for part, factor in zip(self.descriptors(pixels), self.factors, strict=True)]
        combined = torch.cat(parts, dim=1) if self.combine == "concat" else torch.stack(parts).sum(0)
        return F.normalize(combined, dim=1)


def member_weights(weights: Sequence[float] | None, members: int) -> list[float]:
    """Return one weight a member, 1 where none are given; raises UserError where they are none."""
    if weights is None:
        return [1.0] * members
    shown = " ".join(f"{weight:g}" for weight in weights)
    if len(weights) != members:
        raise UserError(f"--weights {shown}: of {members} networks. Expected one weight a network")
    if not all(0 <= weight < math.inf for weight in weights) or not sum(weights) > 0:
        raise UserError(f"--weights {shown}: out of range. Expected finite numbers of at least 0, one of them above 0")
    return [float(weight) for weight in weights]


def build_ensemble(
    members: Sequence[Network], combine: str = "concat", weights: Sequence[float] | None = None
) -> Network:
    """Return a network of networks, which a checkpoint's `network_config` rebuilds like any other.

    Args:
        members: two or more, of any architectures; they become parts of the new one.
        combine: "concat" or "mean" of their descriptors.
        weights: of each member in the similarity of two images; None: equal.

    Raises:
        UserError: one member, an unknown combination, a mean of different dimensions, or weights that are none.
    """
    weights = member_weights(weights, len(members))
    if len(members) < 2:
        raise UserError(f"ensemble: {len(members)} network. Expected two or more")
    if combine not in COMBINATIONS:
        raise UserError(f"--combine {combine}: not known. Expected {' or '.join(COMBINATIONS)}")
    dims = [member.descriptors_dim for member in members]
    if combine == "mean" and len(set(dims)) > 1:
        raise UserError(
            f"--combine mean: the descriptors have {', '.join(map(str, dims))} dimensions. Expected equal ones; "
            "use --combine concat"
        )
    trunk = EnsembleTrunk(members, combine, weights)
    config = {
        "backbone": "ensemble",
        "aggregation": combine,
        "members": [dict(member.config) for member in members],
        "weights": weights,
    }
    return Network(trunk, WholeDescriptor(trunk.out_channels), config)
