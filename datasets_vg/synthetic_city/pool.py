"""The pictures of walls that a process has painted, at several scales, in one block of memory of fixed size."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS = 5


class TexturePool:
    """Painted walls by key; when full it is emptied, so memory stays bounded whatever the size of the city.

    Attributes:
        texels: uint8 [capacity,4].
    """

    def __init__(self, capacity: int = 24_000_000) -> None:
        self.texels = np.empty((capacity, 4), np.uint8)
        self._packed = self.texels.view(np.uint32)[:, 0]
        self._entries: dict[Hashable, NDArray[np.int64]] = {}
        self._used = 0

    def require(self, keys: Sequence[Hashable], paint: Callable[[int], NDArray[np.uint8]]) -> NDArray[np.int64]:
        """Return where the pictures are, int64 [n,LEVELS,3]: offset, height, width; `paint(i)` makes missing ones.

        Raises:
            MemoryError: one picture shows more walls than the pool holds.
        """
        if not self._paint_missing(keys, paint):
            self._entries.clear()
            self._used = 0
            if not self._paint_missing(keys, paint):
                raise MemoryError("one picture shows more walls than the texture pool holds")
        return np.array([self._entries[key] for key in keys], np.int64).reshape(-1, LEVELS, 3)

    def take(self, index: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return texels uint8 [n,4]."""
        return self._packed.take(index).view(np.uint8).reshape(-1, 4)

    def _paint_missing(self, keys: Sequence[Hashable], paint: Callable[[int], NDArray[np.uint8]]) -> bool:
        return all(key in self._entries or self._add(key, paint(i)) for i, key in enumerate(keys))

    def _add(self, key: Hashable, picture: NDArray[np.uint8]) -> bool:
        levels = pyramid(picture, LEVELS)
        if self._used + sum(level.shape[0] * level.shape[1] for level in levels) > len(self.texels):
            return False
        entry = np.empty((LEVELS, 3), np.int64)
        for place, level in zip(entry, levels, strict=True):
            count = level.shape[0] * level.shape[1]
            self.texels[self._used : self._used + count] = level.reshape(-1, 4)
            place[:] = self._used, *level.shape[:2]
            self._used += count
        self._entries[key] = entry
        return True


def pyramid(picture: NDArray[np.uint8], levels: int) -> list[NDArray[np.uint8]]:
    """Return the picture [h,w,4] and its halvings; the fourth channel is picked, not averaged."""
    out = [picture]
    while len(out) < levels:
        fine = out[-1]
        height, width = max(1, fine.shape[0] // 2) * 2, max(1, fine.shape[1] // 2) * 2
        if fine.shape[0] < 2 or fine.shape[1] < 2:
            out.append(fine)
            continue
        cells = fine[:height, :width].astype(np.uint16)
        coarse = (cells[::2, ::2] + cells[1::2, ::2] + cells[::2, 1::2] + cells[1::2, 1::2] + 2) >> 2
        coarse[..., 3] = cells[::2, ::2, 3]
        out.append(coarse.astype(np.uint8))
    return out
