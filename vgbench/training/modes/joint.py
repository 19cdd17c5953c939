"""Several training sets at once: a batch of each in every step, their losses summed (MegaLoc: Berton and Masone, 2025).

Each set is a way to train of its own, with its places, classes or triplets. One backward pass sends the gradients of
all; a set whose round is shorter than another's goes on with its next pass, or with the same batches again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vgbench import parallel
from vgbench.data import ImageTable
from vgbench.data.places import knows_places
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.options import option_names
from vgbench.training.modes.base import Forward, Round, TrainingMode, rest
from vgbench.training.modes.places_options import DerivedPlacesOptions, PlacesOptions
from vgbench.training.modes.table import Recipe, build_single
from vgbench.training.pictures import Shows


@runtime_checkable
class DrawsAgain(Protocol):
    """A way to train that can draw a further round in place of one that has been gone through."""

    def again(self, network: Network, epoch: int, index: int, times: int) -> Round[Any]:
        """Return the round that follows after `times` others in the same place."""
        ...


@dataclass(frozen=True, eq=False)
class JointBatch:
    """A batch of each set."""

    parts: tuple[Any, ...]

    def to(self, device: torch.device) -> JointBatch:
        """Return the batches on a device."""
        return JointBatch(tuple(part.to(device) for part in self.parts))


class _JointRound:
    """As many steps as the longest of the sets' rounds."""

    def __init__(self, modes: Sequence[TrainingMode[Any]], network: Network, epoch: int, index: int) -> None:
        self.modes, self.network, self.epoch = modes, network, epoch
        # A set with fewer rounds an epoch has had all of them before the others.
        self.places = [divmod(index, mode.rounds_per_epoch) for mode in modes]
        self.first = [self._round(number, 0) for number in range(len(modes))]

    def __len__(self) -> int:
        return max(len(batches) for batches in self.first)

    def __iter__(self) -> Iterator[JointBatch]:
        return self.after(0)

    def after(self, done: int) -> Iterator[JointBatch]:
        """Yield the batches after the first `done`."""
        streams = [self._stream(number, done) for number in range(len(self.modes))]
        for _ in range(done, len(self)):
            yield JointBatch(tuple(next(stream) for stream in streams))

    def _stream(self, number: int, done: int) -> Iterator[Any]:
        length = len(self.first[number])
        passed, begun = divmod(done, length)
        while True:
            yield from rest(self._round(number, passed) if passed else self.first[number], begun)
            passed, begun = passed + 1, 0

    def _round(self, number: int, passed: int) -> Round[Any]:
        mode, (before, index) = self.modes[number], self.places[number]
        times = before * 2**16 + passed
        if times == 0:
            return mode.round(self.network, self.epoch, index)
        if isinstance(mode, DrawsAgain):
            return mode.again(self.network, self.epoch, index, times)
        return self.first[number] if passed else mode.round(self.network, self.epoch, index)


class JointMode:
    """A TrainingMode of several: the weighted sum of their losses.

    Args:
        modes: at least one, by the name of its set.
        weights: of each, above 0.
    """

    def __init__(self, modes: Mapping[str, TrainingMode[Any]], weights: Sequence[float]) -> None:
        self.names, self.modes, self.weights = tuple(modes), tuple(modes.values()), tuple(weights)
        self._losses: list[Tensor] = []

    @property
    def images(self) -> ImageTable:
        """The first set's."""
        return self.modes[0].images

    @property
    def rounds_per_epoch(self) -> int:
        """The most that a set has."""
        return max(mode.rounds_per_epoch for mode in self.modes)

    def round(self, network: Network, epoch: int, index: int) -> _JointRound:
        """Prepare a round of each set."""
        self._losses.clear()
        return _JointRound(self.modes, network, epoch, index)

    def loss(self, forward: Forward, batch: JointBatch, generator: torch.Generator) -> Tensor:
        """Return the weighted sum of the sets' losses [], each of its own batch."""
        found = [mode.loss(forward, part, generator) for mode, part in zip(self.modes, batch.parts, strict=True)]
        self._losses.append(torch.stack([one.detach() for one in found]))
        total = found[0] * self.weights[0]
        for one, weight in zip(found[1:], self.weights[1:], strict=True):
            total = total + one * weight
        return total

    def numbers(self) -> dict[str, float]:
        """Return the mean loss of each set since the round began here, before weights."""
        if not self._losses:
            return {}
        means = parallel.all_reduce(torch.stack(self._losses).mean(0)).tolist()
        return {f"loss_{name}": mean for name, mean in zip(self.names, means, strict=True)}

    def pictures(self) -> Mapping[str, Tensor]:
        """Return what the sets have to show."""
        return {
            f"{name}: {title}": picture
            for name, mode in zip(self.names, self.modes, strict=True)
            if isinstance(mode, Shows)
            for title, picture in mode.pictures().items()
        }

    def optimizers(self, epoch: int) -> Sequence[torch.optim.Optimizer]:
        """Return those of all sets."""
        return [optimizer for mode in self.modes for optimizer in mode.optimizers(epoch)]

    def state_dict(self) -> dict[str, Any]:
        """Return what each set remembers."""
        return {"sets": list(self.names), "modes": [mode.state_dict() for mode in self.modes]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back; raises UserError if the interrupted run had other sets."""
        if tuple(state.get("sets", ())) != self.names:
            raise UserError(
                f"--train_dataset_name {' '.join(self.names)}: the interrupted run had "
                f"{' '.join(map(str, state.get('sets', ()))) or 'one set'}. Expected the same sets; start a new run to "
                "change them"
            )
        for mode, stored in zip(self.modes, state["modes"], strict=True):
            mode.load_state_dict(stored)

    def summary(self) -> str:
        """Return a line for each set."""
        rows = zip(self.names, self.weights, self.modes, strict=True)
        return "\n".join(f"{name}, weight {weight:g}: {mode.summary()}" for name, weight, mode in rows)


def from_recipe(recipe: Recipe) -> JointMode:
    """Read all sets and make the mode; raises UserError."""
    kinds = recipe.training.train_modes or (recipe.training.train_mode,) * len(recipe.roots)
    known = [knows_places(root) for root in recipe.roots]
    modes: dict[str, TrainingMode[Any]] = {}
    for root, kind, has_places in zip(recipe.roots, kinds, known, strict=True):
        name = root.name if root.name not in modes else f"{root.name} ({kind})"
        if name in modes:
            raise UserError(f"--train_dataset_name {root.name}: twice as {kind}. Expected each once")
        places = recipe.places if all(known) else _own_options(recipe.places, has_places=has_places)
        data = replace(recipe.data, num_workers=-(-recipe.data.workers // len(recipe.roots)))
        training = replace(recipe.training, train_mode=kind)
        modes[name] = build_single(replace(recipe, root=root, data=data, training=training, places=places))
    return JointMode(modes, recipe.data.train_weights or (1.0,) * len(modes))


def _own_options(options: PlacesOptions, *, has_places: bool) -> PlacesOptions:
    """Return those that a set has a use for: how places are derived, or which cities it is of."""
    if not has_places:
        return replace(options, cities=None)
    return replace(options, **{name: getattr(PlacesOptions, name) for name in option_names(DerivedPlacesOptions)})
