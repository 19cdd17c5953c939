"""Classifiers with a margin: which class is this descriptor of, the right answer handicapped while training.

All three compare directions only: descriptors and the weights of classes are L2-normalised, so that a logit is the
scaled cosine of their angle. `--s` is the scale, `--m` the margin.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.training.tables import MARGIN_LOSSES as MARGIN_LOSSES

_EDGE = 1e-6  # the angle's derivative is infinite at a cosine of 1


class MarginHead(nn.Module, ABC):
    """Descriptors [B,D] and classes [B] to cross-entropy.

    Args:
        dim: D.
        classes: how many there are.
        s: scale of the logits.
        m: margin, in what the loss measures it.
    """

    def __init__(self, dim: int, classes: int, s: float, m: float) -> None:
        super().__init__()
        self.s, self.m = s, m
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.xavier_uniform_(self.weight)

    @abstractmethod
    def handicapped(self, cosine: Tensor) -> Tensor:
        """Return what stands for the cosine [B] of a descriptor with its own class."""

    def logits(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """Return the logits float32 [B,classes] of descriptors [B,D] whose classes are int64 [B]."""
        cosine = F.linear(F.normalize(descriptors.float(), dim=1), F.normalize(self.weight, dim=1))
        own = labels.view(-1, 1)
        return self.s * cosine.scatter(1, own, self.handicapped(cosine.gather(1, own)))

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of descriptors [B,D] with labels int64 [B], a scalar."""
        return F.cross_entropy(self.logits(descriptors, labels), labels)


class CosFace(MarginHead):
    """A margin on the cosine: cos t - m (Wang et al., 2018), as CosPlace trains (Berton et al., 2022)."""

    def handicapped(self, cosine: Tensor) -> Tensor:
        return cosine - self.m


class ArcFace(MarginHead):
    """A margin on the angle: cos(t + m), m in radians (Deng et al., 2019); beyond pi - m it goes on as a straight line,
    so that it never rises again with the angle."""

    def handicapped(self, cosine: Tensor) -> Tensor:
        angle = cosine.clamp(-1 + _EDGE, 1 - _EDGE).acos()
        return torch.where(
            angle + self.m <= math.pi, (angle + self.m).cos(), cosine - self.m * math.sin(math.pi - self.m)
        )


class SphereFace(MarginHead):
    """A multiple of the angle: cos(m t), continued so that it falls for all angles (Liu et al., 2017)."""

    def handicapped(self, cosine: Tensor) -> Tensor:
        angle = self.m * cosine.clamp(-1 + _EDGE, 1 - _EDGE).acos()
        turns = (angle / math.pi).floor().detach()
        return (1 - 2 * (turns % 2)) * angle.cos() - 2 * turns
