"""Losses on (query, positive, negatives): one line a loss.

A loss is called with query [B,D], positive [B,D] and negatives [B,N,D] and returns a scalar: the **sum** over queries
and negatives, as the field's implementations do. The triplet mode divides it by B * N.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor

from vgbench.training.construct import construct
from vgbench.training.options import TrainOptions
from vgbench.training.tables import LOSSES

TripletCriterion = Callable[[Tensor, Tensor, Tensor], Tensor]


def build_loss(options: TrainOptions) -> TripletCriterion:
    """Return the loss that `options.criterion` names; raises UserError if there is none."""
    words = options.criterion_args
    return cast(TripletCriterion, construct(LOSSES, "criterion", options.criterion, options, words))
