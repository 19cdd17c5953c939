"""What the training loop asks of a way to train; triplets are one, classes and places others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import Self

from vgbench.data import ImageTable
from vgbench.models import Network

# Images [B,3,H,W] (or sequences [B,L,3,H,W]) -> descriptors float32 [B,D]: the network in training mode, in the
# run's precision.
Forward = Callable[[Tensor], Tensor]


class Batch(Protocol):
    """What a round yields: anything that can move to a device."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""
        ...


BatchT = TypeVar("BatchT", bound=Batch)
BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)


class Round(Protocol[BatchT_co]):
    """The batches of a round, of known number."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[BatchT_co]: ...


@runtime_checkable
class Skips(Protocol):
    """A round that can begin in its midst without preparing what comes before."""

    def after(self, done: int) -> Iterator[Any]:
        """Yield the batches after the first `done`."""
        ...


@runtime_checkable
class Tells(Protocol):
    """A way to train with numbers of its own; ways that have none just leave `numbers` out."""

    def numbers(self) -> dict[str, float]:
        """Return numbers of the round that has been trained, by name."""
        ...


@runtime_checkable
class LearnsPart(Protocol):
    """A way to train whose batches are not images, but what a network's first layers make of them."""

    def learner(self, network: Network) -> Network:
        """Return the layers of a network that see its batches, and share their weights with it."""
        ...


class TrainingMode(Protocol[BatchT]):
    """A dataset, a sampler and a loss.

    A round must depend only on the network's weights, `epoch`, `index`, the run's seed and `state_dict`, never on
    how many rounds this process has run: that is what makes a resumed run equal to an uninterrupted one.
    """

    @property
    def images(self) -> ImageTable:
        """Return the training images, on which clusters are computed."""
        ...

    @property
    def rounds_per_epoch(self) -> int:
        """How many rounds an epoch has; the run is saved after each."""
        ...

    def round(self, network: Network, epoch: int, index: int) -> Round[BatchT]:
        """Prepare a round with the network as it is now (mine, shuffle, ...) and return its batches."""
        ...

    def loss(self, forward: Forward, batch: BatchT, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch that is on the device: a float32 scalar [].

        Where several ranks share a step, it is this rank's part of the loss: the parts add up to that of the whole step
        (see `vgbench.parallel.all_gather` for losses that need all descriptors).

        `generator` is a CPU generator of this step alone, for augmentation.
        """
        ...

    def optimizers(self, epoch: int) -> Sequence[torch.optim.Optimizer]:
        """Return the optimisers of parameters of the mode's own (a classifier, say), stepped with the network's."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that later rounds depend on beside weights and seed, as tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        ...

    def summary(self) -> str:
        """Return one line for the log."""
        ...


def rest(batches: Round[BatchT], done: int) -> Iterator[BatchT]:
    """Yield the batches after the first `done`, which are not even decoded where the round can do without."""
    if done and isinstance(batches, Skips):
        found: Iterator[BatchT] = batches.after(done)
        return found
    return islice(batches, done, None)
