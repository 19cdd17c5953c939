"""Any way to train, and beside it the part of the network that re-ranks (SelaVPR, FoL, R2Former, Pair-VPR)."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench import parallel
from vgbench.data import TripletBatch
from vgbench.errors import UserError
from vgbench.models import Network
from vgbench.models.sequences.network import SequenceNetwork
from vgbench.options import shown
from vgbench.training.losses.pairs import PAIR_LOSSES, PairLoss
from vgbench.training.modes.around import ModeAround
from vgbench.training.modes.base import Forward, Round, TrainingMode
from vgbench.training.modes.hashing import Judges
from vgbench.training.modes.joint import JointBatch, JointMode
from vgbench.training.modes.pairs_options import ALONE, OFF, PairTrainingOptions
from vgbench.training.modes.table import Recipe

LOG = logging.getLogger(__name__)

_WITH_PAIRS = ("triplets", "places", "classes")


@dataclass(frozen=True)
class PairTriplets:
    """Images, images of the same places and images of others, of which pairs are made.

    Attributes:
        rows: int64 [n,3], places of the three in a batch.
        total: triplets of the whole step, over all ranks.
        gathered: whether places are in the batch of all ranks.
    """

    rows: Tensor
    total: int
    gathered: bool = False


class PairMode(ModeAround[Any]):
    """A TrainingMode around another: its loss, and that of pairs of the batch's images.

    Triplets are pairs as they are: the query with its positive, and with each of its hard negatives. Of places and
    classes, each image is paired with the least similar one of its own place and with the most similar one of another.

    Args:
        mode: the way to train.
        loss: of the pairs.
        recipe: what the mode was made from, with the network.
        options: of the pairs. Trained alone, the rest of the network is frozen.
    """

    def __init__(
        self, mode: TrainingMode[Any], loss: PairLoss, recipe: Recipe, network: Network, options: PairTrainingOptions
    ) -> None:
        super().__init__(mode)
        self.network, self.pair_loss, self.options = network, loss, options
        self.runtime = recipe.inference.runtime
        self.weight = loss.weight if options.pair_weight is None else options.pair_weight
        self.alone = options.train_pairs == ALONE
        self.own = pair_parameters(network)
        if self.alone:
            for part in (network.backbone, network.aggregation):
                part.requires_grad_(False)
            for parameter in self.own:
                parameter.requires_grad_(True)
        self._told: list[Tensor] = []

    @property
    def calls_apart(self) -> bool:
        """True: what compares pairs learns outside of the call of the network."""
        return True

    def round(self, network: Network, epoch: int, index: int) -> Round[Any]:
        """Prepare the inner mode's round."""
        self._told.clear()
        return self.mode.round(network, epoch, index)

    def loss(self, forward: Forward, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the inner loss plus that of the pairs []; the latter alone where only it is trained."""
        described: list[Tensor] = []

        def watched(images: Tensor) -> Tensor:
            described.append(forward(images))
            return described[-1]

        if self.alone:
            self._only_pairs_train()
        with _inputs_of(self.network.aggregation) as seen, torch.set_grad_enabled(not self.alone):
            inner = self.mode.loss(watched, batch, generator)
        total = self.own[0].new_zeros(()) if self.alone else inner
        if isinstance(batch, JointBatch) and isinstance(self.mode, JointMode):
            parts = list(zip(batch.parts, self.mode.weights, strict=True))
        else:
            parts = [(batch, 1.0)]
        for (part, weight), features, descriptors in zip(parts, seen, described, strict=True):
            total = total + weight * self.weight * self._loss_of_pairs(part, features, descriptors.detach())
        return total

    def judge(self, descriptors: Tensor, batch: Any) -> Tensor | None:
        """Return the inner mode's judgement of other descriptors [B,N], without pairs."""
        return self.mode.judge(descriptors, batch) if isinstance(self.mode, Judges) else None

    def numbers(self) -> dict[str, float]:
        """Return the inner mode's numbers, the mean loss of pairs, and the share of them that are in order."""
        own = super().numbers()
        if not self._told:
            return own
        loss, right = (parallel.all_reduce(torch.stack(self._told).mean(0))).tolist()
        return {**own, "loss_pairs": loss, "pairs_ordered": right}

    def summary(self) -> str:
        """Return one line for the log."""
        name = self.network.aggregation.reranked_by
        if self.alone:
            return f"{self.mode.summary()}; only what --rerank {name} needs learns, from pairs"
        return f"{self.mode.summary()}; what --rerank {name} needs learns beside it from pairs, weight {self.weight:g}"

    def _only_pairs_train(self) -> None:
        """Keep statistics and dropout of what is frozen as in a test."""
        self.network.eval()
        for name in self.network.aggregation.pair_parts:
            part = getattr(self.network.aggregation, name)
            if isinstance(part, nn.Module):
                part.train()

    def _loss_of_pairs(self, batch: Any, features: Any, descriptors: Tensor) -> Tensor:
        """This rank's part of the loss [] of a batch whose images the aggregation has seen."""
        triplets = triplets_of(batch, descriptors)
        if triplets.gathered:
            features = _each(parallel.all_gather_sums, features)
        used, places = torch.unique(triplets.rows, return_inverse=True)
        head: Any = self.network.aggregation
        with self.runtime.autocast():
            found = head.pair_tokens(_each(lambda one: one[used], features)) if len(used) else []
            tokens = [one for _, one in found]
            pairs = torch.cat([places[:, [0, 1]], places[:, [0, 2]]])
            distinct, which = torch.unique(pairs, dim=0, return_inverse=True)
            scores = self.pair_loss.scores(head, tokens, distinct).float()
        right, wrong = scores[which].chunk(2)
        total = max(triplets.total, 1)
        loss = self.pair_loss.compare(right, wrong, self.options.pair_margin).sum() / total
        self._told.append(torch.stack([loss.detach(), (right > wrong).sum() / total]))
        # On every rank backward goes through the same parts, whatever is in its batch.
        through = [*self.own, *(_tensors(features) if triplets.gathered else ())]
        nothing = torch.stack([one.flatten()[:0].float().sum() for one in through]).sum()
        return loss + nothing


def with_pairs(mode: TrainingMode[Any], options: PairTrainingOptions, recipe: Recipe) -> TrainingMode[Any]:
    """Return the mode with the network's part that compares pairs beside it, or as it is where it has none.

    Raises:
        UserError: the part was asked to learn where there is none, or where it cannot.
    """
    network = recipe.network
    name = "" if network is None else network.aggregation.reranked_by
    if network is None or name not in PAIR_LOSSES or not network.aggregation.pair_parts:
        if options != PairTrainingOptions():
            raise UserError(
                f"--{_first_set(options)}: {'the network' if network is None else network.name} has no part that "
                f"compares pairs. Expected --aggregation or --method of {', '.join(PAIR_LOSSES)}; leave it out"
            )
        return mode
    if options.train_pairs == OFF:
        return mode
    why = _why_not(recipe, network)
    if why:
        refuse_pairs(options, network, why)
        return mode
    loss: PairLoss = PAIR_LOSSES.resolve(name)()
    if options.pair_margin and not loss.has_margin:
        raise UserError(
            f"--pair_margin {options.pair_margin:g}: the loss of {name} has no margin. Expected it with selavpr or "
            "fol; leave it out"
        )
    return PairMode(mode, loss, recipe, network, options)


def refuse_pairs(options: PairTrainingOptions, network: Network, why: str) -> None:
    """Warn that the network's part that compares pairs does not learn, where it has one.

    Raises:
        UserError: it was asked to.
    """
    if options.train_pairs == OFF:
        return
    if options != PairTrainingOptions():
        raise UserError(f"--{_first_set(options)}: pairs do not learn with {why}. Expected one of the two")
    if network.aggregation.reranked_by in PAIR_LOSSES:
        LOG.warning(
            "network: what --rerank %s needs does not learn with %s; it stays as it is",
            network.aggregation.reranked_by, why,
        )  # fmt: skip


def _why_not(recipe: Recipe, network: Network) -> str:
    """Return the option with which pairs cannot be made, "" where they can."""
    training = recipe.training
    if isinstance(network, SequenceNetwork):
        return "--seq_aggregation"
    for kind in training.train_modes or (training.train_mode,):
        if kind not in _WITH_PAIRS:
            return f"--train_mode {kind}"
    if training.grad_cache_chunk is not None:
        return f"--grad_cache_chunk {training.grad_cache_chunk}"
    return "--compile on" if recipe.inference.runtime.compile else ""


def _first_set(options: PairTrainingOptions) -> str:
    """Return the first option that is not at its default, with its value."""
    plain = PairTrainingOptions()
    names = [field.name for field in dataclasses.fields(plain)]
    name = next(name for name in names if getattr(options, name) != getattr(plain, name))
    return f"{name} {shown(getattr(options, name))}"


def pair_parameters(network: Network) -> list[nn.Parameter]:
    """Return the parameters on which only re-ranking depends."""
    found: list[nn.Parameter] = []
    for name in network.aggregation.pair_parts:
        part = getattr(network.aggregation, name)
        found += [part] if isinstance(part, nn.Parameter) else list(part.parameters())
    return found


def triplets_of(batch: Any, descriptors: Tensor) -> PairTriplets:
    """Return what pairs are made of.

    Args:
        batch: a TripletBatch, or a LabelledBatch of this rank's images.
        descriptors: float32 [B,D], of its images.
    """
    if isinstance(batch, TripletBatch):
        count = batch.negatives.shape[1]
        sides = (batch.query, batch.positive)
        rows = torch.stack([*(side.repeat_interleave(count) for side in sides), batch.negatives.flatten()], dim=1)
        return PairTriplets(rows, batch.step_size * count)
    counts = parallel.all_gather_objects(len(batch.labels))
    rows = hardest(parallel.all_gather(descriptors), parallel.all_gather(batch.labels))
    first = sum(counts[: parallel.rank()])
    mine = (rows[:, 0] >= first) & (rows[:, 0] < first + counts[parallel.rank()])
    return PairTriplets(rows[mine], len(rows), gathered=len(counts) > 1)


def hardest(descriptors: Tensor, labels: Tensor) -> Tensor:
    """Return each image with the least similar one of its place and the most similar one of another, int64 [n,3].

    Images without either are left out (batch-hard: Hermans et al., 2017).

    Args:
        descriptors: float32 [B,D], compared by their cosine.
        labels: int64 [B], the place of each.
    """
    unit = F.normalize(descriptors.float(), dim=1)
    alike = unit @ unit.T
    same = labels[:, None] == labels[None]
    others = ~same
    same = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    rows = (same.any(1) & others.any(1)).nonzero().squeeze(1)
    positive = alike.masked_fill(~same, torch.inf).argmin(1)
    negative = alike.masked_fill(~others, -torch.inf).argmax(1)
    return torch.stack([rows, positive[rows], negative[rows]], dim=1)


@contextlib.contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Any]]:
    """Yield the list of what a module is called with while the body runs."""
    seen: list[Any] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _tensors(features: Any) -> tuple[Tensor, ...]:
    return (features,) if isinstance(features, Tensor) else tuple(features)


def _each(change: Callable[[Tensor], Any], features: Any) -> Any:
    """Apply a function to the features of a batch: a tensor, or a tuple of tensors."""
    return change(features) if isinstance(features, Tensor) else tuple(change(one) for one in features)
