"""Which descriptors are equal to the last bit."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUND_BYTES = 2**22


def distinct_rows(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first of each set of equal rows of float32 [N,D], int64 [U], and which set each row is in, int64 [N].

    By a hash of each row, which is then checked: sorting whole rows would take longer than searching them.
    """
    bits = vectors.view(torch.int32)
    _, which = torch.unique(_hashes(bits), return_inverse=True)
    first = _first_of_each(which)
    for part in _rounds(bits):
        if not torch.equal(bits[part], bits[first[which[part]]]):  # as good as never: two rows with one hash
            _, which = torch.unique(bits, dim=0, return_inverse=True)
            return _first_of_each(which), which
    return first, which


def _hashes(bits: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=random).mul_(2).add_(1).to(bits.device)
    hashes = torch.empty(len(bits), dtype=torch.int64, device=bits.device)
    for part in _rounds(bits):
        hashes[part] = (bits[part] * factors).sum(1)
    return hashes


def _first_of_each(which: Tensor) -> Tensor:
    first = torch.full((int(which.max()) + 1,), len(which), dtype=torch.int64, device=which.device)
    return first.scatter_reduce_(0, which, torch.arange(len(which), device=which.device), "amin")


def _rounds(bits: Tensor) -> list[slice]:
    step = max(1, _ROUND_BYTES // (8 * bits.shape[1]))
    return [slice(start, start + step) for start in range(0, len(bits), step)]
