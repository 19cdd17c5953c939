"""Describing images by several ranks: who takes which, and how what they find is put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench import parallel

Described = Iterator[tuple[Tensor, Tensor]]


def share_out(
    rows: NDArray[np.int64],
    unit: int,
    describe: Callable[[NDArray[np.int64]], Described],
    *,
    dim: int,
    device: torch.device,
    progress: Callable[[int], object] | None,
) -> Described:
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
    world, own = parallel.world(), parallel.rank()
    starts = range(0, len(rows), unit)
    mine = [rows[start : start + unit] for start in starts[own::world]]
    found = describe(np.concatenate(mine)) if mine else iter(())
    for first in range(0, len(starts), world):
        these = rows[first * unit : (first + world) * unit]
        described = next(found, (None, torch.zeros(0, dim, device=device)))[1]
        yield torch.from_numpy(these.copy()), parallel.all_gather(described)
        if progress is not None:
            progress(len(these))
