"""How long a training has taken, and what is left of it."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from vgbench.quantities import bytes_text


class Clock:
    """Seconds since it was made, until `stop`."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.seconds = 0.0

    def stop(self) -> None:
        """Note the seconds."""
        self.seconds = time.monotonic() - self._started


class Remaining:
    """Says what is left of a run, from the pace since this process began, validations included.

    Args:
        epochs: epochs that the run has at most; early stopping may end it before.
        position: where this process begins, in epochs.
        clock: seconds that never go back.
    """

    def __init__(self, epochs: int, position: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._epochs, self._start, self._clock = epochs, position, clock
        self._began = clock()

    def seconds(self, position: float) -> float | None:
        """Return the seconds left at a position in epochs; None where there is no pace yet."""
        done = position - self._start
        return (self._clock() - self._began) / done * max(self._epochs - position, 0.0) if done > 0 else None

    def text(self, position: float) -> str:
        """Return "at most 1:23:45 for 7 epochs", the epoch that has begun counted; "nothing" at the end."""
        left, seconds = self._epochs - math.floor(position), self.seconds(position)
        if left <= 0:
            return "nothing"
        epochs = f"{left} epoch" if left == 1 else f"{left} epochs"
        return epochs if seconds is None else f"at most {datetime.timedelta(seconds=round(seconds))} for {epochs}"


def first_steps_line(steps: int, left: str, kept: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> str:
    """Return what is said after a run's first steps: what is left, and the size of a checkpoint.

    Args:
        left: of `Remaining.text`.
        kept: the networks that a checkpoint holds.
        optimizer: whose state it holds.
    """
    tensors = [tensor for network in kept for tensor in network.state_dict().values()]
    tensors += [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    size = bytes_text(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
    return f"as the first {steps} steps go, validation aside: {left}; checkpoints of {size}"
