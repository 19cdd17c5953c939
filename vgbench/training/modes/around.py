"""A way to train around another: what it does not change is the inner one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic

import torch
from torch import Tensor

from vgbench.data import ImageTable
from vgbench.training.modes.base import BatchT, Tells, TrainingMode
from vgbench.training.pictures import Shows


class ModeAround(Generic[BatchT]):
    """The part of a TrainingMode that it hands on from another; rounds, losses and the summary are its own.

    Attributes:
        mode: the inner way to train.
    """

    def __init__(self, mode: TrainingMode[BatchT]) -> None:
        self.mode = mode

    @property
    def calls_apart(self) -> bool:
        """Whether parameters of the network learn outside of its call."""
        return bool(getattr(self.mode, "calls_apart", False))

    @property
    def images(self) -> ImageTable:
        """The inner mode's."""
        return self.mode.images

    @property
    def rounds_per_epoch(self) -> int:
        """The inner mode's."""
        return self.mode.rounds_per_epoch

    def numbers(self) -> dict[str, float]:
        """Return the inner mode's numbers."""
        return self.mode.numbers() if isinstance(self.mode, Tells) else {}

    def pictures(self) -> Mapping[str, Tensor]:
        """Return the inner mode's pictures."""
        return self.mode.pictures() if isinstance(self.mode, Shows) else {}

    def optimizers(self, epoch: int) -> Sequence[torch.optim.Optimizer]:
        """Return the inner mode's optimisers."""
        return self.mode.optimizers(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner mode's state."""
        return self.mode.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what the inner mode's state was."""
        self.mode.load_state_dict(state)
