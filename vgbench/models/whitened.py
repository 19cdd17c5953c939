"""A network whose descriptors are whitened by a linear layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vgbench.models.aggregation.build import Projection
from vgbench.models.network import CompositeTrunk, Network
from vgbench.models.release_kinds import WholeDescriptor

NAME = "whitened"


class WhitenedTrunk(CompositeTrunk):
    """Pixels [B,3,H,W] in 0..1 to L2-normalised descriptors [B,N]: a member's, through a linear layer.

    Args:
        member: the network.
        dim: N.
    """

    def __init__(self, member: Network, dim: int) -> None:
        super().__init__([member])
        self.projection = Projection(member.descriptors_dim, dim)
        self.out_channels = dim

    def forward(self, pixels: Tensor) -> Tensor:
        (descriptors,) = self.descriptors(pixels)
        return F.normalize(self.projection(descriptors), dim=1)


def build_whitened(member: Network, dim: int) -> Network:
    """Return a network with a linear layer [D,dim], yet to be set, behind another's L2-normalised descriptors [B,D].

    Like any other, it is rebuilt from its checkpoint's `network_config`, and `train.py --start_from` trains all of it.
    """
    trunk = WhitenedTrunk(member, dim)
    config = {
        "backbone": NAME,
        "aggregation": str(member.config.get("method") or member.config["aggregation"]),
        "members": [dict(member.config)],
        "dim": dim,
    }
    return Network(trunk, WholeDescriptor(dim), config)
