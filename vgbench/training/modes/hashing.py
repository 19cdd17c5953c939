"""Any way to train, with a hashing branch that learns beside it from the same descriptors (SelaVPR++, 2025)."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench import parallel
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.hashing import HashingBranch, hashing_of
from vgbench.training.losses.similarity import similarity_loss
from vgbench.training.modes.around import ModeAround
from vgbench.training.modes.base import BatchT, Forward, Round, TrainingMode
from vgbench.training.modes.hashing_options import HashingOptions
from vgbench.training.modes.table import Recipe


@runtime_checkable
class Judges(Protocol):
    """A way to train whose loss needs a batch's descriptors alone, of whatever dimensions."""

    def judge(self, descriptors: Tensor, batch: Any) -> Tensor | None:
        """Return this rank's part of the loss [] of descriptors [B,N]; None where they must be of the network."""
        ...


def code_loss(descriptors: Tensor, codes: Tensor) -> Tensor:
    """Return the similarity loss [] of codes beside the descriptors that they are of.

    Args:
        descriptors: [B,D], compared by their cosine; no gradient goes to them.
        codes: [B,N] of -1 and 1, compared by their product over N.
    """
    return similarity_loss(codes / codes.shape[1] ** 0.5, F.normalize(descriptors.detach().float(), dim=1))


class HashingMode(ModeAround[Any]):
    """A TrainingMode around another: its loss, and those of the codes of all descriptors that it asked for.

    Codes learn from the descriptors and not the other way round: the network is trained as it would be without them.

    Args:
        mode: the way to train.
        branch: the network's.
        options: weights of the losses.
    """

    def __init__(self, mode: TrainingMode[BatchT], branch: HashingBranch, options: HashingOptions) -> None:
        super().__init__(mode)
        self.branch, self.options = branch, options
        self._losses: list[Tensor] = []

    @property
    def calls_apart(self) -> bool:
        """True: the branch learns outside of the call of the network."""
        return True

    def round(self, network: Network, epoch: int, index: int) -> Round[Any]:
        """Prepare the inner mode's round."""
        self._losses.clear()
        return self.mode.round(network, epoch, index)

    def loss(self, forward: Forward, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the inner loss plus those of the codes []."""
        seen: list[Tensor] = []

        def watched(images: Tensor) -> Tensor:
            seen.append(forward(images))
            return seen[-1]

        loss = self.mode.loss(watched, batch, generator)
        own = torch.cat([descriptors.detach().float() for descriptors in seen])
        counts = parallel.all_gather_objects(len(own))
        whole = parallel.all_gather(own)
        codes = self.branch(whole)  # on every rank, so that all have the same statistics
        hashed = self.options.hash_similarity_weight * code_loss(whole, codes) / parallel.world()
        if self.options.hash_metric_weight and len(seen) == 1 and isinstance(self.mode, Judges):
            before = sum(counts[: parallel.rank()])
            mine = codes[before : before + len(own)] / self.branch.bits**0.5
            judged = self.mode.judge(mine, batch)
            if judged is not None:
                hashed = hashed + self.options.hash_metric_weight * judged
        self._losses.append(hashed.detach())
        return loss + hashed

    def numbers(self) -> dict[str, float]:
        """Return the inner mode's numbers and the mean loss of the codes since the round began here."""
        own = super().numbers()
        if not self._losses:
            return own
        return {**own, "loss_codes": float(parallel.all_reduce(torch.stack(self._losses).mean()))}

    def summary(self) -> str:
        """Return one line for the log."""
        return f"{self.mode.summary()}; codes of {self.branch.bits} bits learn beside it"


def with_hashing(mode: TrainingMode[Any], options: HashingOptions, recipe: Recipe) -> TrainingMode[Any]:
    """Return the mode with the network's hashing branch beside it, or as it is where it has none.

    Raises:
        UserError: a way to train without descriptors.
    """
    branch = hashing_of(recipe.network)
    if branch is None:
        return mode
    if recipe.training.train_mode == "geowarp":
        raise UserError(
            "--hash_bits: --train_mode geowarp trains what compares pairs, and no descriptors. Expected another "
            "--train_mode; leave it out"
        )
    return HashingMode(mode, branch, options)
