"""What the parts of networks that compare two images learn from: an image, one of its place and one of another."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.registry import Registry

# A class made without arguments, by the name of the re-ranker (`--rerank`) whose part of the network it trains.
PAIR_LOSSES = Registry(
    "loss of pairs",
    {
        "selavpr": "vgbench.training.losses.pairs:MutualMatches",
        "fol": "vgbench.training.losses.pairs:SureMatches",
        "r2former": "vgbench.training.losses.pairs:SamePlace",
        "pairvpr": "vgbench.training.losses.pairs:WeightedSamePlace",
    },
)
FOL_SIMILARITY = 0.7


class PairLoss(Protocol):
    """Scores of pairs of images, and what they cost.

    Attributes:
        weight: beside the loss of descriptors, as its paper has it.
        has_margin: whether `margin` means anything.
    """

    weight: float
    has_margin: bool

    def scores(self, head: Any, tokens: list[Tensor], pairs: Tensor) -> Tensor:
        """Return how likely pairs are of one place, float32 [M], the larger the likelier.

        Args:
            head: the aggregation whose part is trained.
            tokens: of each image, float [T,C].
            pairs: int64 [M,2], places in `tokens`, the query's first.
        """
        ...

    def compare(self, right: Tensor, wrong: Tensor, margin: float) -> Tensor:
        """Return the loss of each triplet [n] by the scores [n] of its right pair and of its wrong one."""
        ...


class MutualMatches:
    """SelaVPR's local feature loss (Lu et al., 2024): relu(wrong - right + margin).

    A pair's score is the mean cosine of the local features that are each other's nearest.
    """

    weight = 1.0
    has_margin = True
    least = -2.0

    def scores(self, head: Any, tokens: list[Tensor], pairs: Tensor) -> Tensor:
        found = [mutual_similarity(tokens[one], tokens[other], self.least) for one, other in pairs.tolist()]
        return torch.stack(found) if found else torch.zeros(0, device=pairs.device)

    def compare(self, right: Tensor, wrong: Tensor, margin: float) -> Tensor:
        return F.relu(wrong - right + margin)


class SureMatches(MutualMatches):
    """The same of the local features in FoL's reliable areas whose cosine exceeds 0.7 (Wang et al., 2025)."""

    least = FOL_SIMILARITY


class SamePlace:
    """Binary cross-entropy of the logit that a pair is of one place.

    That is R2Former's cross-entropy of two classes (Zhu et al., 2023), whose logits differ by this one.
    """

    weight = 1.0
    has_margin = False

    def scores(self, head: Any, tokens: list[Tensor], pairs: Tensor) -> Tensor:
        if not len(pairs):
            return torch.zeros(0, device=pairs.device)
        first, second = (torch.stack([tokens[place] for place in side.tolist()]) for side in pairs.unbind(1))
        logits: Tensor = head.pair_logits(first, second)
        return logits

    def compare(self, right: Tensor, wrong: Tensor, margin: float) -> Tensor:
        return (F.softplus(-right) + F.softplus(wrong)) / 2


class WeightedSamePlace(SamePlace):
    """The same, weighing twice as much as the loss of descriptors (Pair-VPR: Hausler and Moghadam, 2025)."""

    weight = 2.0


def mutual_similarity(first: Tensor, second: Tensor, least: float) -> Tensor:
    """Return the mean cosine [] of the unit vectors [T,C] and [S,C] that are each other's nearest.

    Args:
        least: only pairs above it count; all of them where none is.
    """
    with torch.no_grad():
        cosines = first.detach() @ second.detach().T
        there, back = cosines.argmax(1), cosines.argmax(0)
        rows = (back[there] == torch.arange(len(first), device=first.device)).nonzero().squeeze(1)
        columns = there[rows]
        sure = cosines[rows, columns] > least
        if sure.any():
            rows, columns = rows[sure], columns[sure]
    return (first[rows] * second[columns]).sum(1).mean()
