"""Any way to train, with a domain classifier against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor

from vgbench import parallel
from vgbench.data import image_loader
from vgbench.data.augment import resize_batch
from vgbench.data.unlabelled import read_unlabelled
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.randomness import numpy_stream
from vgbench.training.modes.around import ModeAround
from vgbench.training.modes.base import BatchT, Forward, Round, TrainingMode, rest
from vgbench.training.modes.domain_classifier import DomainAdversary, DomainOptions
from vgbench.training.modes.table import Recipe

_WORKERS = 2  # beside those of the mode's own loader


@dataclass(frozen=True, eq=False)
class DomainBatch(Generic[BatchT]):
    """A batch of the mode within, with target images.

    Attributes:
        inner: the mode's own batch.
        targets: uint8 [T,3,H,W].
        progress: how far the ramp of the reversed gradient has come.
    """

    inner: BatchT
    targets: Tensor
    progress: float

    def to(self, device: torch.device) -> DomainBatch[BatchT]:
        """Return the batch on a device."""
        return DomainBatch(self.inner.to(device), self.targets.to(device, non_blocking=True), self.progress)


class _DomainRound(Generic[BatchT]):
    def __init__(self, inner: Round[BatchT], targets: Round[Any], start: float, step: float) -> None:
        self.inner, self.targets, self.start, self.step = inner, targets, start, step

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[DomainBatch[BatchT]]:
        return self.after(0)

    def after(self, done: int) -> Iterator[DomainBatch[BatchT]]:
        """Yield the batches after the first `done`."""
        pairs = zip(rest(self.inner, done), rest(self.targets, done), strict=True)
        for number, (batch, (images, _)) in enumerate(pairs, done):
            yield DomainBatch(batch, images, self.start + number * self.step)


class DomainMode(ModeAround[BatchT]):
    """A TrainingMode around another: its loss, and the loss of a domain classifier on the same descriptors.

    Args:
        mode: the way to train.
        options: of the classifier and its target images.
        recipe: what the way to train was made from.

    Raises:
        UserError: no folder of target images, or no readable image in it.
    """

    def __init__(self, mode: TrainingMode[BatchT], options: DomainOptions, recipe: Recipe) -> None:
        if options.grl_folder is None:
            raise UserError("--grl_folder: not given. Expected a folder of unlabelled target images")
        super().__init__(mode)
        self.options, self.recipe = options, recipe
        dim, seed = recipe.descriptors_dim, recipe.seed
        self.targets = read_unlabelled(options.grl_folder, "--grl_folder")
        self.adversary = DomainAdversary(dim, weight=options.grl_weight, hidden=options.grl_hidden, seed=seed)
        self.adversary.to(recipe.inference.runtime.device)
        self.optimizer = torch.optim.Adam(self.adversary.parameters(), lr=options.grl_lr)

    def round(self, network: Network, epoch: int, index: int) -> Round[DomainBatch[BatchT]]:
        """Prepare the inner mode's round and draw target images for each of its steps."""
        inner = self.mode.round(network, epoch, index)
        count, size = len(self.targets), self.options.grl_batch_size
        draws = (
            numpy_stream(self.recipe.seed, "targets", epoch, index, step, *parallel.own_stream())
            for step in range(len(inner))
        )
        rows = [stream.choice(count, size, replace=count < size) for stream in draws]
        loader = image_loader(
            self.targets,
            np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64),
            size=self.recipe.data.resize,
            batch_size=size,
            num_workers=min(_WORKERS, self.recipe.data.workers),
        )
        epochs = max(self.options.grl_ramp_epochs, 1e-9)
        start = (epoch + index / self.rounds_per_epoch) / epochs
        return _DomainRound(inner, loader, start, 1 / (max(len(inner), 1) * self.rounds_per_epoch * epochs))

    def loss(self, forward: Forward, batch: DomainBatch[BatchT], generator: torch.Generator) -> Tensor:
        """Return the inner loss plus the domain classifier's [], on all descriptors [B,D] that it asked for."""
        seen: list[Tensor] = []
        sizes: list[tuple[int, int]] = []

        def watched(images: Tensor) -> Tensor:
            seen.append(forward(images))
            sizes.append((images.shape[2], images.shape[3]))
            return seen[-1]

        loss = self.mode.loss(watched, batch.inner, generator)
        # At another size than the source's, the classifier would tell sizes apart, not domains.
        targets = batch.targets if batch.targets.shape[2:] == sizes[-1] else resize_batch(batch.targets, sizes[-1])
        return loss + self.adversary.loss(torch.cat(seen), forward(targets), batch.progress) / parallel.world()

    def optimizers(self, epoch: int) -> Sequence[torch.optim.Optimizer]:
        """Return the inner mode's optimisers and the classifier's."""
        return (*self.mode.optimizers(epoch), self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner mode's state, the classifier and its optimiser."""
        return {
            "mode": self.mode.state_dict(),
            "adversary": self.adversary.state_dict(),
            "adversary_optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; raises UserError if the run had no such classifier."""
        try:
            self.adversary.load_state_dict(state["adversary"])
            rate = self.optimizer.param_groups[0]["lr"]
            self.optimizer.load_state_dict(state["adversary_optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--grl_folder {self.options.grl_folder}: the interrupted run had no such domain classifier. Expected "
                "the same --grl_folder and --grl_hidden; start a new run to change them"
            ) from error
        self.optimizer.param_groups[0]["lr"] = rate  # it may have been changed on purpose
        self.mode.load_state_dict(state["mode"])

    def summary(self) -> str:
        """Return one line for the log."""
        return (
            f"{self.mode.summary()}; against a domain classifier with {len(self.targets)} target images of "
            f"{self.options.grl_folder}"
        )


def with_domain(mode: TrainingMode[Any], options: DomainOptions, recipe: Recipe) -> TrainingMode[Any]:
    """Return the mode with a domain classifier against it, or as it is where no `grl_folder` is given."""
    if options.grl_folder is None:
        return mode
    return DomainMode(mode, options, recipe)
