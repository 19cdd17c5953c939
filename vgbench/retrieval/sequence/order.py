"""In which order images were taken, and which of them belong to one sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgbench.data.name_fields import pano_id_of
from vgbench.data.table import ImageTable
from vgbench.errors import UserError

_DAY = 8  # characters of YYYYMMDD
_MINUTES = 13  # of YYYYMMDD_hhmm
_NUMBER = re.compile(r"(.*?)(\d+)\D*", re.DOTALL)
_EXPECTED = {
    "timestamp": "a time of day (YYYYMMDD_hhmm or longer) in each, different ones on each day",
    "pano_id": "a number at the end of the pano_id of each, different ones after each beginning",
}


@dataclass(frozen=True, eq=False)
class Walk:
    """The images of a table in the order in which they were taken.

    Attributes:
        by: what they are ordered by: "timestamp", "pano_id" or "list".
        rows: int64 [N], the table's rows, one sequence after the other.
        starts, ends: int64 [N], for each place in `rows` where its sequence starts and ends (the place after its last).
    """

    by: str
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def sequences(self) -> int:
        """How many there are."""
        return len(np.unique(self.starts))

    def shifted(self, steps: int) -> NDArray[np.int64]:
        """Return int64 [N], the place `steps` after each place, or the end of its sequence where there is none."""
        return np.clip(np.arange(len(self.rows)) + steps, self.starts, self.ends - 1)


def walk_of(table: ImageTable, by: str) -> Walk:
    """Put a table's images into order.

    Args:
        by: as `--seq_order`.

    Raises:
        UserError: the names do not say it.
    """
    for name in ("timestamp", "pano_id") if by == "auto" else (by,):
        found = _list(table) if name == "list" else _keys(table, name)
        if found is not None:
            return _walk(name, *found)
    if by == "auto":
        return _walk("list", *_list(table))
    raise UserError(f"--seq_order {by}: names in {table.root} do not say it. Expected {_EXPECTED[by]}; or use list")


Keys = tuple[Sequence[str], NDArray[np.float64]]
"""Each image's sequence, and its number in it."""


def _list(table: ImageTable) -> Keys:
    return [path.rpartition("/")[0] for path in table.relative_paths()], np.arange(len(table), dtype=np.float64)


def _keys(table: ImageTable, by: str) -> Keys | None:
    """Return the keys by a field of the names; None where not all have it, or two images of a sequence the same."""
    groups: list[str] = []
    numbers = np.empty(len(table))
    seen: set[tuple[str, float]] = set()
    for row, path in enumerate(table.relative_paths()):
        key = _by_time(table.timestamp(row)) if by == "timestamp" else _by_pano(path)
        if key is None or key in seen:
            return None
        seen.add(key)
        groups.append(key[0])
        numbers[row] = key[1]
    return groups, numbers


def _by_time(timestamp: str) -> tuple[str, float] | None:
    digits = timestamp[_DAY + 1 :]
    if len(timestamp) < _MINUTES or not digits.isdecimal():
        return None
    return timestamp[:_DAY], float(digits.ljust(6, "0"))


def _by_pano(path: str) -> tuple[str, float] | None:
    found = _NUMBER.fullmatch(pano_id_of(path))
    if found is None:
        return None
    # Several cameras of one vehicle, or several views of one panorama, are sequences of their own.
    fields = path.rpartition("/")[2].split("@")
    return f"{found[1]}@{fields[8]}" if len(fields) > 8 else found[1], float(found[2])


def _walk(by: str, groups: Sequence[str], numbers: NDArray[np.float64]) -> Walk:
    # Sequences stand in the order in which the table first names them.
    place: dict[str, int] = {}
    code = np.array([place.setdefault(group, len(place)) for group in groups], np.int64)
    rows = np.lexsort((numbers, code)).astype(np.int64)
    ordered = code[rows]
    starts = np.searchsorted(ordered, ordered, side="left").astype(np.int64)
    ends = np.searchsorted(ordered, ordered, side="right").astype(np.int64)
    return Walk(by, rows, starts, ends)
