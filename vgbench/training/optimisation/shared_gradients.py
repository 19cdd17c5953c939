"""Gradients of all ranks, added in buckets while backward still runs (PyTorch Distributed: Li et al., 2020)."""

# No `from __future__ import annotations`: torch looks at the types of a communication hook.
import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vgbench import parallel
from vgbench.training.optimisation.optim import with_gradient

BUCKET_MB = 25  # of gradients that are sent together


class SharedGradients:
    """Calls a network so that its gradients are the sum over all ranks; with one rank it only calls it.

    A bucket is sent as soon as its gradients are there, while backward goes on with the layers before it. What does not
    come out of the call (a mode's classifier, a GeoWarp) is added after backward.

    Args:
        network: whose parameters are trained.
        call: images [B,3,H,W] -> descriptors [B,D]; the network, or what it was compiled to.
        overlap: add in buckets during backward; False: all after it, for comparison.
    """

    def __init__(self, network: nn.Module, call: Callable[[Tensor], Tensor], overlap: bool = True) -> None:
        self._call: Callable[[Tensor], Tensor] = call
        self._own = {id(parameter) for parameter in network.parameters()}
        self._shared: DistributedDataParallel | None = None
        self._called = False
        if overlap and parallel.world() > 1:
            self._call = self._shared = _in_buckets(network, call)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B,3,H,W] -> descriptors [B,D], for a backward in the same `part`."""
        self._called = True
        return self._call(images)

    @contextlib.contextmanager
    def part(self, last: bool) -> Iterator[None]:
        """Hold the forward and the backward of one part of a step; only the last part sends what all have added."""
        if self._shared is None or last:
            yield
            return
        with self._shared.no_sync():
            yield

    def add_the_rest(self, optimizer: torch.optim.Optimizer) -> None:
        """Add, over all ranks, those gradients of an optimiser that backward has not."""
        done = self._own if self._shared is not None and self._called else set()
        parallel.all_reduce_gradients(value for value in with_gradient(optimizer) if id(value) not in done)

    def step_over(self) -> None:
        """Begin anew, after the optimisers' steps."""
        self._called = False


def _in_buckets(network: nn.Module, call: Callable[[Tensor], Tensor]) -> DistributedDataParallel:
    """Wrap a network, of which all ranks have the same weights.

    Parameters may be left out of a call (the mask token of a ViT). To look for them also keeps the buckets as they were
    at the start: arranged anew after the first step, they would make a resumed run differ in its last bits.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`broadcast_buffers` is deprecated"
        )  # its successor is not in torch 2.6
        shared = DistributedDataParallel(
            _Called(network, call), broadcast_buffers=False, find_unused_parameters=True, bucket_cap_mb=BUCKET_MB,
            init_sync=False,
        )  # fmt: skip
    shared.register_comm_hook(None, _sum)
    return shared


class _Called(nn.Module):
    """A network as it is called; with a parameter that no call uses, or torch advises not to look for such."""

    def __init__(self, network: nn.Module, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.call = network, call if call is not network else None
        self.never_used = nn.Parameter(torch.zeros(1, device=next(network.parameters()).device))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = (self.call or self.network)(images)
        return found


def _sum(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Add a bucket [n] over all ranks; each rank's loss is its part of the whole, so that nothing is divided."""
    work = cast(Any, dist.all_reduce(bucket.buffer(), async_op=True))
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future
