"""BatchNorm over the batches of all ranks, on CPUs too (Ioffe and Szegedy, 2015)."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vgbench import parallel

LOG = logging.getLogger(__name__)


class SyncedBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d whose statistics, while training, are those of the images of all ranks together."""

    def forward(self, input: Tensor) -> Tensor:
        """Return [B,C] or [B,C,L], normalised."""
        return _normalised(self, input, super().forward)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose statistics, while training, are those of the images of all ranks together."""

    def forward(self, input: Tensor) -> Tensor:
        """Return [B,C,H,W], normalised."""
        return _normalised(self, input, super().forward)


class SyncedBatchNormAct2d(SyncedBatchNorm2d):
    """The same of timm's BatchNormAct2d, which drops and activates what it has normalised (timm.layers.norm_act)."""

    drop: Callable[[Tensor], Tensor]
    act: Callable[[Tensor], Tensor]

    def forward(self, input: Tensor) -> Tensor:
        """Return [B,C,H,W], normalised, dropped and activated."""
        return self.act(self.drop(super().forward(input)))


def synchronise_norms(network: nn.Module) -> None:
    """Turn the BatchNorm layers of a network, in place, into ones over all ranks; nothing where there is one rank.

    Warns once, with their types, of layers that stay as they are: each rank then normalises its own images alone.
    """
    if parallel.world() == 1:
        return
    left = set()
    for module in network.modules():
        synced = _synced_type(type(module))
        if synced is not None:
            module.__class__ = synced
        elif isinstance(module, _BatchNorm) and not isinstance(module, _SYNCED):
            left.add(f"{type(module).__module__}.{type(module).__qualname__}")
    if left:
        LOG.warning(
            "not synchronised between ranks, whose statistics are each of its own images: %s; --freeze_bn leaves "
            "them as they are",
            ", ".join(sorted(left)),
        )


_SYNCED = (SyncedBatchNorm1d, SyncedBatchNorm2d, nn.SyncBatchNorm)


def _synced_type(found: type[nn.Module]) -> type[nn.Module] | None:
    """Return what takes the place of a layer; None: nothing does. Subclasses may compute something else."""
    if found is nn.BatchNorm1d:
        return SyncedBatchNorm1d
    if found is nn.BatchNorm2d:
        return SyncedBatchNorm2d
    # By its name: timm may not be installed, and takes seconds to import.
    if found.__name__ == "BatchNormAct2d" and found.__module__.partition(".")[0] == "timm":
        return SyncedBatchNormAct2d
    return None


def _normalised(norm: _BatchNorm, input: Tensor, alone: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what BatchNorm makes of [B,C,...]; `alone` computes it where there is nothing to share."""
    if not norm.training or parallel.world() == 1:
        return alone(input)
    values = input.float()
    channels = values.shape[1]
    others = tuple(axis for axis in range(values.ndim) if axis != 1)

    def spread(per_channel: Tensor) -> Tensor:
        return per_channel.view(-1, *[1] * (values.ndim - 2))

    own = values.sum(others), values.new_full((1,), values.numel() / channels)
    sums = parallel.all_reduce(torch.cat(own))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    # The mean first: a difference of squares would cost the variance its digits.
    centred = values - spread(mean)
    variance = parallel.all_reduce(centred.square().sum(others)) / count
    _follow(norm, mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
    normalised = centred * spread((variance + norm.eps).rsqrt())
    if norm.affine:
        normalised = normalised * spread(norm.weight) + spread(norm.bias)
    return normalised.to(input.dtype)


@torch.no_grad()
def _follow(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)
