"""Work that begins before it is needed: copies of batches beside a step, decoding beside other images' descriptors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

import torch

from vgbench.training.modes.base import BatchT

T = TypeVar("T")


def ahead(batches: Iterable[BatchT], device: torch.device) -> Iterator[BatchT]:
    """Yield batches in their order: on a GPU copied there by a stream of its own, one ahead; elsewhere as they are.

    The copies overlap with the computations where the batches are in pinned memory, as `BatchLoader` gives them.
    """
    if device.type != "cuda":
        yield from batches
        return
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    coming: tuple[BatchT, torch.cuda.Event] | None = None
    for batch in batches:
        following = _copied(batch, device, beside)
        if coming is not None:
            yield _arrived(coming, device)
        coming = following
    if coming is not None:
        yield _arrived(coming, device)


def _copied(batch: BatchT, device: torch.device, beside: torch.cuda.Stream) -> tuple[BatchT, torch.cuda.Event]:
    # The memory that it takes may be that of an earlier batch, which steps read that were asked for until now.
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):
        return batch.to(device), beside.record_event()


def _arrived(coming: tuple[BatchT, torch.cuda.Event], device: torch.device) -> BatchT:
    batch, event = coming
    torch.cuda.current_stream(device).wait_event(event)
    return batch


def begun(batches: Iterator[T]) -> Iterator[T]:
    """Return the same batches, of which the first is asked for now: the processes that make them go on from there."""
    return chain(list(islice(batches, 1)), batches)
