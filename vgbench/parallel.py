"""Several processes as one run: who is who, and the few things that they tell one another.

A program started by torchrun is one of `world()` ranks. All ranks go through the same code and take the same
decisions; images are shared out, and what is found in them is gathered. Rank 0 alone writes. Without torchrun there is
one rank, and everything here does nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from vgbench.srun import one_of_several

LOG = logging.getLogger(__name__)

T = TypeVar("T")

# One rank may mine, verify or write for this long while the others wait for it.
PATIENCE = datetime.timedelta(hours=2)
_alone: ContextVar[bool] = ContextVar("alone", default=False)


def launched() -> bool:
    """Whether torchrun (or anything that sets the same variables) started this process as one of several ranks."""
    return one_of_several()


def start(device: torch.device) -> None:
    """Join the other ranks, over NCCL where they have GPUs and gloo where they do not; nothing where there are none."""
    if launched() and not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        store, own, count = next(iter(rendezvous("env://", timeout=PATIENCE)))
        # The store outlives a restart, and has the addresses of ranks that are no more.
        fresh = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=fresh, rank=own, world_size=count, timeout=PATIENCE)


def stop() -> None:
    """Leave the other ranks."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def local_rank() -> int:
    """The rank among those of this machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def who() -> str:
    """Return "rank 3: " for messages, "" where there is one rank."""
    return f"rank {os.environ['RANK']}: " if launched() else ""


def leave(status: int) -> NoReturn:
    """End this process, without waiting for ranks that wait for it: torchrun ends those."""
    if launched():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def world() -> int:
    """How many ranks share the work."""
    return dist.get_world_size() if _together() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if _together() else 0


def is_main() -> bool:
    """Whether this is the rank that writes; also for work that it does alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return not launched() or os.environ["RANK"] == "0"


def share(count: int) -> slice:
    """Return this rank's part of `count` things: contiguous, in the order of ranks, sizes differing by one at most."""
    return part(count, rank(), world())


def part(count: int, own: int, ranks: int) -> slice:
    """Return `share(count)` of rank `own` of `ranks`, for a process that is none of them, such as a loader's worker."""
    return slice(own * count // ranks, (own + 1) * count // ranks)


def share_out(
    rows: NDArray[np.int64],
    unit: int,
    describe: Callable[[NDArray[np.int64]], Iterator[tuple[Tensor, Tensor]]],
    *,
    dim: int,
    device: torch.device,
    progress: Callable[[int], object] | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows int64 [n] on the CPU, descriptors float32 [m,D] on the device), in order, the same on every rank.

    Ranks take turns: the first unit of rows is rank 0's, the next rank 1's. Each unit is described as one rank alone
    would describe it, so that the numbers do not depend on how many ranks there are.

    Args:
        rows: int64 [M].
        unit: rows that `describe` yields at a time, its last ones excepted.
        describe: describes some rows, on this rank.
        dim: D.
        progress: called with the number of rows that were described.
    """
    ranks = world()
    starts = range(0, len(rows), unit)
    mine = [rows[start : start + unit] for start in starts[rank() :: ranks]]
    found = describe(np.concatenate(mine)) if mine else iter(())
    for first in range(0, len(starts), ranks):
        these = rows[first * unit : (first + ranks) * unit]
        described = next(found, (None, torch.zeros(0, dim, device=device)))[1]
        yield torch.from_numpy(these.copy()), all_gather(described)
        if progress is not None:
            progress(len(these))


def own_stream() -> tuple[str | int, ...]:
    """Return what to add to the name of a random stream for draws that should differ between ranks; () on rank 0."""
    return ("rank", rank()) if rank() else ()


def barrier() -> None:
    """Wait until every rank has come here."""
    if _together():
        dist.barrier()


def broadcast(value: T) -> T:
    """Return rank 0's value on all ranks."""
    if not _together():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def all_gather_objects(value: T) -> list[T]:
    """Return every rank's value, in the order of ranks."""
    if not _together():
        return [value]
    box: list[Any] = [None] * world()
    dist.all_gather_object(box, value)
    return cast(list[T], box)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Run the body as if there were no other ranks."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def on_main(work: Callable[[], T]) -> T:
    """Let rank 0 do some work alone, and return its result on all ranks.

    An exception ends rank 0, and torchrun the others.
    """
    if not _together():
        return work()
    result: T | None = None
    if is_main():
        with alone():
            result = work()
    return cast(T, broadcast(result))


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Run the body on rank 0 before all others, which then find what it left behind."""
    if _together() and not is_main():
        dist.barrier()
        yield
        return
    yield
    if _together():
        dist.barrier()


def all_gather(tensor: Tensor) -> Tensor:
    """Put the rows of all ranks one after the other, in the order of ranks; gradients flow back to their rows.

    The function of the rows that follows must be the same on all ranks, each taking its `1 / world()` part of it: the
    parts' gradients then add up to the whole's.

    Args:
        tensor: [n,...], where n may differ between ranks.

    Returns:
        [sum of n,...].
    """
    if not _together():
        return tensor
    return cast(Tensor, _AllGather.apply(tensor))


def all_gather_sums(tensor: Tensor) -> Tensor:
    """Return the same as `all_gather`; each rank's rows get the gradients that all ranks together have for them.

    For functions of which each rank computes its own part. Every rank has to go backward through what it returns.
    """
    if not _together():
        return tensor
    return cast(Tensor, _AllGatherSums.apply(tensor))


def all_reduce(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor [...] over all ranks; gradients are added likewise."""
    if not _together():
        return tensor
    return cast(Tensor, _AllReduce.apply(tensor))


def all_reduce_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its sum over all ranks, in one message a data type."""
    if not _together():
        return
    found: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            found.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in found.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()


def broadcast_module(module: nn.Module) -> None:
    """Give a module rank 0's weights and buffers on all ranks."""
    if _together():
        for tensor in [*module.parameters(), *module.buffers()]:
            value = tensor.detach().contiguous()
            dist.broadcast(value, src=0)
            tensor.detach().copy_(value)


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 and not _alone.get()


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        sizes = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in range(world())]
        dist.all_gather(sizes, torch.tensor([len(tensor)], dtype=torch.int64, device=tensor.device))
        counts = [int(size) for size in sizes]
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        own = rank()
        context.rows = slice(sum(counts[:own]), sum(counts[: own + 1]))
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        # Every rank computes the same function of all rows and takes its part of it, so that what reaches these rows
        # from all ranks together is `world` times what reaches them from here.
        return gradients[0][context.rows] * world()


class _AllGatherSums(_AllGather):
    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[context.rows]


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone().contiguous()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone().contiguous()
        dist.all_reduce(total)
        return total
