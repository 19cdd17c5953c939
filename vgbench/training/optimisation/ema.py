"""An exponential moving average of a network's weights (Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from vgbench.models import Network, load_state_dict
from vgbench.stored import checked_value


class Ema:
    """A second network whose weights follow the trained one's: torch's `AveragedModel` with a decay that warms up.

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
        self.updates = 0
        self._trained = network
        self._averaged = AveragedModel(network, multi_avg_fn=self._average, use_buffers=True)
        self._averaged.requires_grad_(False).eval()
        # Its first update would copy the trained weights; ours averages with those that training started from.
        self._averaged.n_averaged.fill_(1)
        self.network = cast(Network, self._averaged.module)

    def update(self) -> None:
        """Take the trained network's weights, as they are after a step, into the average."""
        self.updates += 1
        self._averaged.update_parameters(self._trained)

    @torch.no_grad()
    def restart(self) -> None:
        """Start again from the trained network's weights as they are now."""
        self.updates = 0
        self.network.load_state_dict(self._trained.state_dict())

    def _average(self, averaged: Sequence[Tensor], trained: Sequence[Tensor], count: Tensor | int) -> None:
        """Average tensors of one dtype and device in place."""
        if averaged[0].is_floating_point():
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(list(averaged), list(trained), 1 - decay)
        else:
            torch._foreach_copy_(list(averaged), list(trained))

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and how many steps they are of."""
        return {"averaged": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; raises UserError if it is of another network."""
        load_state_dict(self.network, state["averaged"])
        self.updates = checked_value("updates", state["updates"], int)
