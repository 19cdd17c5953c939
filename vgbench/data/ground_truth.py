"""Which database images are right for which query: by distance, and heading, by frame number, or by a file."""

from __future__ import annotations

import csv
import math
import pickle
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.data.positives import Neighbours, neighbours_within
from vgbench.data.protocol_options import ProtocolOptions as ProtocolOptions
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.files import is_file

_PANO_ID = 7  # its place among the fields of a name
_DIGITS = re.compile(r"\d+")
# What NumPy raises for a header or a pickle that somebody changed.
_NO_ARRAY = (
    *(OSError, ValueError, EOFError, AttributeError, TypeError, LookupError, ArithmeticError, MemoryError, SyntaxError),
    *(pickle.UnpicklingError, tokenize.TokenError, RecursionError),
)
# What a pickled array of arrays of numbers is made of; nothing else is loaded.
_OF_ARRAYS = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}


@dataclass(frozen=True)
class GroundTruth:
    """What counts as right.

    Attributes:
        heading: beside a distance: degrees between the headings at most; None: whatever they are.
        frames: instead of a distance: frames between the numbers at most.
        file: instead of a distance: a file of the right images.
    """

    heading: float | None = None
    frames: int | None = None
    file: Path | None = None

    @property
    def located(self) -> bool:
        """Whether it is positions that are compared."""
        return self.frames is None and self.file is None

    @property
    def label(self) -> str:
        """What tables add to a dataset's name, since recalls by another truth do not compare; '' by distance."""
        if self.frames is not None:
            return f"±{self.frames} frames"
        if self.file is not None:
            return f"by {self.file.name}"
        return "" if self.heading is None else f"within {self.heading:g}°"

    def thresholds(self, wanted: Sequence[float]) -> tuple[float, ...]:
        """Return what recalls are counted at: `wanted` metres; frames where it is frames; one where a file says it."""
        if self.frames is not None:
            return (float(self.frames),)
        return tuple(wanted[:1]) if self.file is not None else tuple(wanted)

    def positives(self, queries: ImageTable, database: ImageTable, threshold: float) -> Neighbours:
        """Return the right database rows of each query.

        Args:
            threshold: one of `thresholds`.

        Raises:
            UserError: names without the number or the heading that is to be compared, a file that does not fit.
        """
        if self.frames is not None:
            return _by_frames(queries, database, threshold)
        if self.file is not None:
            return _by_file(self.file, queries, database)
        near = neighbours_within(queries.utm, database.utm, threshold)
        return near if self.heading is None else _facing_alike(near, queries, database, self.heading)


def within_text(threshold: float, label: str) -> str:
    """Return how a threshold is written where tables and pages say what is right: "25 m", "±10 frames", "by x.csv"."""
    return label if label.startswith(("±", "by ")) else f"{threshold:g} m"


def _by_frames(queries: ImageTable, database: ImageTable, tolerance: float) -> Neighbours:
    numbers = [np.array([_frame_number(t, row) for row in range(len(t))], np.float64) for t in (queries, database)]
    asked, known = (np.stack([one, np.zeros(len(one))], axis=1) for one in numbers)
    return neighbours_within(asked, known, tolerance)


def _frame_number(table: ImageTable, row: int) -> int:
    name = table.relative_path(row).rpartition("/")[2]
    fields = name.split("@")
    text = fields[_PANO_ID] if len(fields) > _PANO_ID and fields[_PANO_ID] else name.rpartition(".")[0]
    digits = _DIGITS.findall(text)
    if not digits:
        raise UserError(
            f"--frame_tolerance: {table.path(row)} has no number. Expected the frame's number in every name"
        )
    return int(digits[-1])


def _facing_alike(near: Neighbours, queries: ImageTable, database: ImageTable, most: float) -> Neighbours:
    for table in (queries, database):
        unknown = np.isnan(table.heading)
        if unknown.any():
            raise UserError(
                f"--heading_threshold: {int(unknown.sum())} of {len(table)} names in {table.root} have no heading, "
                f"such as {table.relative_path(int(np.argmax(unknown)))}. Expected one in field 9 of every name"
            )
    owners = np.repeat(np.arange(len(near)), near.counts)
    turn = database.heading[near.indices].astype(np.float64) - queries.heading[owners].astype(np.float64)
    alike = np.abs((turn + 180) % 360 - 180) <= most
    return _rows_of(owners[alike], near.indices[alike], len(near))


def _by_file(file: Path, queries: ImageTable, database: ImageTable) -> Neighbours:
    if not is_file(file):
        raise UserError(f"--ground_truth {file}: no such file. Expected a .csv or .npy of the right database images")
    pairs = _pairs_of_csv(file, queries, database) if file.suffix.lower() != ".npy" else _pairs_of_npy(file)
    table = np.array(list(pairs), np.int64).reshape(-1, 2)
    for column, size, what in ((0, len(queries), "queries"), (1, len(database), "database images")):
        if len(table) and not 0 <= table[:, column].min() <= table[:, column].max() < size:
            raise UserError(
                f"--ground_truth {file}: names row {table[:, column].max()} of {size} {what}. Expected rows from 0"
            )
    return _rows_of(table[:, 0], table[:, 1], len(queries))


def _rows_of(owners: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> Neighbours:
    distinct = np.unique(np.stack([owners, rows], axis=1), axis=0) if len(owners) else np.empty((0, 2), np.int64)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(distinct[:, 0], minlength=count))])
    return Neighbours(indptr.astype(np.int64), distinct[:, 1].astype(np.int64))


def _pairs_of_csv(file: Path, queries: ImageTable, database: ImageTable) -> Iterator[tuple[int, int]]:
    """Yield rows: names are paths below the two folders, or base names where these are distinct."""
    asked, known = _rows_by_name(queries), _rows_by_name(database)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            head = lines.readline()
            lines.seek(0)
            rows = list(csv.reader(lines, delimiter=";" if head.count(";") > head.count(",") else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"--ground_truth {file}: cannot be read ({error}). Expected lines of names with commas"
        ) from error
    if rows and rows[0] and rows[0][0].strip().lower() in ("query", "queries", "name"):
        rows = rows[1:]
    for number, cells in enumerate(rows, start=1):
        names = [cell.strip() for cell in cells]
        if not names or not names[0]:
            continue
        for where, name in ((asked, names[0]), *((known, name) for name in names[1:] if name)):
            if name not in where:
                kind = "query" if where is asked else "database image"
                raise UserError(
                    f"--ground_truth {file}: line {number}: {name} is no {kind}. Expected the name of an image in "
                    f"{queries.root if where is asked else database.root}"
                )
        yield from ((asked[names[0]], known[name]) for name in names[1:] if name)


def _rows_by_name(table: ImageTable) -> dict[str, int]:
    rows: dict[str, int] = {}
    twice = set()
    for row, path in enumerate(table.relative_paths()):
        base = path.rpartition("/")[2]
        twice |= {base} if base in rows else set()
        rows[base] = row
        rows[path] = row
    for base in twice:
        if "/" not in base and base not in set(table.relative_paths()):
            del rows[base]
    return rows


def _pairs_of_npy(file: Path) -> Iterator[tuple[int, int]]:
    """Yield rows of an integer array of pairs [M,2] (or padded rows [Q,K], -1 for nothing), or an array of arrays."""
    array = _read_npy(file)
    if array.dtype == object or array.ndim == 1:
        for query, rows in enumerate(array.tolist()):
            yield from ((query, row) for row in _whole_numbers(file, rows).ravel().tolist())
        return
    array = _whole_numbers(file, array)
    if array.ndim == 2 and array.shape[1] == 2 and not (array < 0).any():
        yield from ((query, row) for query, row in array.tolist())
    elif array.ndim == 2:
        yield from ((query, row) for query, rows in enumerate(array.tolist()) for row in rows if row >= 0)
    else:
        raise UserError(f"--ground_truth {file}: an array {list(array.shape)}. Expected pairs [M,2] or rows [Q,K]")


def _whole_numbers(file: Path, values: Any) -> NDArray[np.int64]:
    """Return values as int64; raises UserError where they are none, words and fractions included."""
    try:
        found = np.asarray(values)
        with np.errstate(invalid="ignore"):  # NaN, which is refused below
            whole = found.astype(np.int64)
        if found.size and (found.dtype.kind not in "iufO" or not (whole == found).all()):
            raise ValueError(f"{found.ravel()[0]!r} and others")
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"--ground_truth {file}: holds no whole numbers ({error}). Expected rows of images") from error
    return whole


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays of numbers, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in _OF_ARRAYS:
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def _check_length(file: Path, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise ValueError where a file is shorter than the numbers it promises, before memory is taken for them."""
    needed = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
    if start + needed > file.stat().st_size:
        raise ValueError(f"cut short: {list(shape)} numbers are promised")


def _read_npy(file: Path) -> NDArray[Any]:
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(stream)
            _check_length(file, stream.tell(), shape, dtype)
            if dtype.hasobject:
                loaded = _ArraysOnly(stream).load()
                return np.asarray(loaded, dtype=object).reshape(shape) if not isinstance(loaded, np.ndarray) else loaded
        array = np.load(file, allow_pickle=False)
    except _NO_ARRAY as error:
        raise UserError(
            f"--ground_truth {file}: cannot be read ({error}). Expected an array of whole numbers"
        ) from error
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"--ground_truth {file}: numbers of type {array.dtype}. Expected whole ones, rows from 0")
    return np.asarray(array)


BY_DISTANCE = GroundTruth()
