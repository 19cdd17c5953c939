"""Learning rates over a run: pure functions of the position in it, so that a resumed run has the same rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch

from vgbench.training.optimisation.options import ScheduleOptions
from vgbench.training.tables import SCHEDULES

# Where a warm-up starts: not at 0, or the first step would be none.
WARMUP_START = 0.01
# One-cycle starts at this fraction of its peak (Smith and Topin, 2019: an order of magnitude below or more).
ONECYCLE_START = 1 / 25

# (epochs since the warm-up's end, drops of plateau) -> factor
Shape = Callable[[float, int], float]


class Schedule:
    """The factor on every base learning rate.

    Args:
        options: which schedule, and its numbers.
        epochs_num: epochs of the run, the length of cosine, linear and onecycle where neither `schedule_epochs` nor
            `schedule_iterations` is set.
    """

    def __init__(self, options: ScheduleOptions, epochs_num: int) -> None:
        self.warmup = options.warmup_epochs
        self._iterations = options.schedule_iterations
        self._shape = _shape(options, (options.schedule_epochs or epochs_num) - self.warmup)
        self._length = options.schedule_epochs or epochs_num

    def factor(self, position: float, drops: int = 0, steps: int = 0) -> float:
        """Return the factor at a position in the run.

        Args:
            position: epochs since the start, with the fraction of the one that runs.
            drops: how often the recall on val has come to a plateau.
            steps: optimiser steps since the start, which count instead where `schedule_iterations` is set.
        """
        if self._iterations is not None:
            return self._shape(steps / self._iterations * self._length, drops)
        if position < self.warmup:
            # To where the schedule starts, which of one-cycle is far below its peak.
            first = self._shape(0.0, drops)
            return WARMUP_START + (first - WARMUP_START) * position / self.warmup
        return self._shape(position - self.warmup, drops)

    def apply(
        self, optimizers: Iterable[torch.optim.Optimizer], position: float, drops: int = 0, steps: int = 0
    ) -> None:
        """Set the learning rate of every parameter group from its base rate (`initial_lr`); see `factor`."""
        factor = self.factor(position, drops, steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def _shape(options: ScheduleOptions, length: float) -> Shape:
    """Return the schedule after its warm-up; `length` is in epochs."""
    name = options.schedule
    shape: Shape = SCHEDULES.resolve(name)(
        options, length, **SCHEDULES.keywords("schedule", name, options.schedule_args)
    )
    return shape


def constant(options: ScheduleOptions, length: float) -> Shape:
    """The base rates, all the time."""
    return lambda epochs, drops: 1.0


def step(options: ScheduleOptions, length: float) -> Shape:
    """A drop every few epochs."""
    every = options.schedule_step or 5
    return lambda epochs, drops: max(_low(options), options.gamma ** math.floor(epochs / every))


def multistep(options: ScheduleOptions, length: float) -> Shape:
    """A drop at each of some epochs."""
    milestones = options.milestones or ()
    return lambda epochs, drops: max(_low(options), options.gamma ** sum(epochs >= one for one in milestones))


def exponential(options: ScheduleOptions, length: float) -> Shape:
    """A factor for each epoch, and in between."""
    return lambda epochs, drops: max(_low(options), options.gamma**epochs)


def plateau(options: ScheduleOptions, length: float) -> Shape:
    """A drop whenever the recall on val has come to a plateau."""
    return lambda epochs, drops: max(_low(options), options.gamma**drops)


def cosine(options: ScheduleOptions, length: float) -> Shape:
    """Half a cosine from the base rates down."""
    return lambda epochs, drops: _cosine(1.0, _low(options), epochs / length)


def linear(options: ScheduleOptions, length: float) -> Shape:
    """A straight line from the base rates down."""
    low = _low(options)
    return lambda epochs, drops: 1 + (low - 1) * min(epochs / length, 1.0)


def onecycle(options: ScheduleOptions, length: float) -> Shape:
    """Up and down once."""
    return partial(_one_cycle, length=length, rise=options.onecycle_rise or 0.3, low=_low(options))


def _low(options: ScheduleOptions) -> float:
    return options.min_lr_fraction or 0.0


def _cosine(start: float, end: float, part: float) -> float:
    """Half a cosine from `start` at part 0 to `end` at part 1, and `end` beyond."""
    return end + (start - end) * (1 + math.cos(math.pi * min(part, 1.0))) / 2


def _one_cycle(epochs: float, drops: int, *, length: float, rise: float, low: float) -> float:
    """Up to 1 in the first `rise` of the run, down to `low` in the rest (Smith and Topin, 2019), both as cosines."""
    part = epochs / length
    if part < rise:
        return _cosine(ONECYCLE_START, 1.0, part / rise)
    return _cosine(1.0, low, (part - rise) / (1 - rise))
