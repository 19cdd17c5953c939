"""In which order images were taken, and which of them belong to one sequence."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgbench.data.name_fields import key_of, pano_id_of
from vgbench.data.table import ImageTable
from vgbench.errors import UserError, in_short

ORDER_SUFFIX = "_sequences.csv"
ORDER_COLUMNS = ("key", "sequence_key", "frame_number")  # of MSLS's seq_info.csv
_DAY = 8  # characters of YYYYMMDD
_MINUTES = 13  # of YYYYMMDD_hhmm
_NUMBER = re.compile(r"(.*?)(\d+)\D*", re.DOTALL)
_EXPECTED = {
    "file": f"<folder>{ORDER_SUFFIX} beside the folder",
    "timestamp": "a time of day (YYYYMMDD_hhmm or longer) in each, different ones on each day",
    "pano_id": "a number at the end of the pano_id of each, different ones after each beginning",
}


@dataclass(frozen=True, eq=False)
class Walk:
    """The images of a table in the order in which they were taken.

    Attributes:
        by: what they are ordered by: "file", "timestamp", "pano_id" or "list".
        rows: int64 [N], the table's rows, one sequence after the other.
        starts, ends: int64 [N], for each place in `rows` where its sequence starts and ends (the place after its last).
        numbers: float64 [N], what orders each place within its sequence: seconds of the day by "timestamp", else the
            number of the frame.
    """

    by: str
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    numbers: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

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
    for name in ("file", "timestamp", "pano_id") if by == "auto" else (by,):
        found = _list(table) if name == "list" else _file(table) if name == "file" else _keys(table, name)
        if found is not None:
            return _walk(name, *found)
    if by == "auto":
        return _walk("list", *_list(table))
    if by == "file":
        raise UserError(f"--seq_order file: there is no {order_file(table.root)}. Expected lines of {_LINES}")
    raise UserError(f"--seq_order {by}: names in {table.root} do not say it. Expected {_EXPECTED[by]}; or use list")


def order_file(folder: Path) -> Path:
    """Return the file that says which images of a folder are frames of which sequence."""
    return folder.with_name(folder.name + ORDER_SUFFIX)


_LINES = ",".join(ORDER_COLUMNS) + ", the key being an image's pano_id (or its name without extension)"

Keys = tuple[Sequence[str], NDArray[np.float64]]
"""Each image's sequence, and its number in it."""


def _list(table: ImageTable) -> Keys:
    return [path.rpartition("/")[0] for path in table.relative_paths()], np.arange(len(table), dtype=np.float64)


def _file(table: ImageTable) -> Keys | None:
    """Return the keys by the file beside the folder, None where there is none; raises UserError for one of others."""
    path = order_file(table.root)
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            known = {key: (sequence, float(frame)) for key, sequence, frame in _rows(csv.DictReader(lines))}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({in_short(error)}). Expected lines of {_LINES}") from error
    found = [known.get(key_of(name)) for name in table.relative_paths()]
    missing = next((row for row, one in enumerate(found) if one is None), None)
    if missing is not None:
        raise UserError(f"{path}: has no line for {table.relative_path(missing)}. Expected one for each image")
    held = [one for one in found if one is not None]
    if len(set(held)) < len(held):
        raise UserError(f"{path}: names a frame of a sequence twice. Expected each frame_number once in its sequence")
    return [sequence for sequence, _ in held], np.array([frame for _, frame in held])


def _rows(lines: csv.DictReader[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(line[column] for column in ORDER_COLUMNS) for line in lines)


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
    hours, minutes, seconds = (int(digits.ljust(6, "0")[start : start + 2]) for start in (0, 2, 4))
    return timestamp[:_DAY], 3600.0 * hours + 60.0 * minutes + seconds


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
    return Walk(by, rows, starts, ends, numbers[rows])
