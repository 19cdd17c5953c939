"""An exponential moving average of a network's weights (Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vgbench.models import Network, load_state_dict
from vgbench.stored import checked_value


class Ema:
    """A second network whose weights follow the trained one's.

    The running statistics of BatchNorm are averaged like the weights: those of the trained network belong to other
    weights than the averaged ones. Counters are copied. The first steps count for more, as the decay starts at
    (1 + n) / (10 + n) of step n, so that the average does not hang on to the first weights for 1 / (1 - decay) steps.

    Args:
        network: the network that is trained.
        decay: of the average a step, between 0 and 1.

    Attributes:
        network: has the averaged weights; in eval mode, without gradients.
        updates: steps that were averaged.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.network: Network = copy.deepcopy(network).requires_grad_(False).eval()
        self.updates = 0
        self._pairs = _pairs(self.network, network)

    @torch.no_grad()
    def update(self) -> None:
        """Take the trained network's weights, as they are after a step, into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged = [(mine, theirs) for mine, theirs in self._pairs if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in averaged], [theirs for _, theirs in averaged], 1 - decay)
        for mine, theirs in self._pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)

    @torch.no_grad()
    def restart(self) -> None:
        """Start again from the trained network's weights as they are now."""
        self.updates = 0
        for mine, theirs in self._pairs:
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and how many steps they are of."""
        return {"averaged": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; raises UserError if it is of another network."""
        load_state_dict(self.network, state["averaged"])
        self.updates = checked_value("updates", state["updates"], int)


def _pairs(averaged: nn.Module, trained: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return every parameter and persistent buffer of one beside that of the other."""
    mine, theirs = averaged.state_dict(keep_vars=True), trained.state_dict(keep_vars=True)
    return [(mine[name], theirs[name]) for name in mine if isinstance(mine[name], Tensor)]
