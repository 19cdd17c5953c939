"""BatchNorm over the batches of all ranks, on CPUs too (Ioffe and Szegedy, 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench import parallel


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose statistics, while training, are those of the images of all ranks together."""

    def forward(self, input: Tensor) -> Tensor:
        alone: Tensor
        if not self.training or parallel.world() == 1:
            alone = super().forward(input)
            return alone
        values = input.float()
        channels = values.shape[1]
        own = values.sum((0, 2, 3)), values.new_full((1,), values.numel() / channels)
        sums = parallel.add_up(torch.cat(own))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        # The mean first: a difference of squares would cost the variance its digits.
        centred = values - mean[:, None, None]
        variance = parallel.add_up(centred.square().sum((0, 2, 3))) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normalised = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        found: Tensor = normalised.to(input.dtype)
        return found

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def synchronise_norms(network: nn.Module) -> None:
    """Turn the BatchNorm2d layers of a network, in place, into ones over all ranks; nothing where there is one rank."""
    if parallel.world() == 1:
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
