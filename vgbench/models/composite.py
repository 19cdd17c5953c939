"""What networks made of whole networks have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.base import Backbone
from vgbench.models.network import Network


class CompositeTrunk(Backbone):
    """A trunk whose parts are whole networks: pixels [B,3,H,W] in 0..1, which each member normalises in its own way.

    Args:
        members: the networks.
    """

    kind = "vector"
    as_it_is = True  # its members are rewritten into their faster form, one by one, and not the whole
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        # Sides of images have to suit every member's patches.
        self.multiple = math.lcm(*(member.backbone.multiple for member in members))
        self.mixes_batch = any(member.mixes_batch for member in members)

    def networks(self) -> list[Network]:
        """Return the members."""
        return [cast(Network, member) for member in self.members]

    def descriptors(self, pixels: Tensor) -> list[Tensor]:
        """Return each member's L2-normalised descriptors [B,D]."""
        return [F.normalize(member((pixels - member.mean) / member.std), dim=1) for member in self.networks()]
