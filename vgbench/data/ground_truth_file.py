"""Files that say which database images are right for which query: lines of names, or arrays of rows."""

from __future__ import annotations

import csv
import math
import pickle
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.files import is_file

# What NumPy raises for a header or a pickle that somebody changed.
_NO_ARRAY = (
    *(OSError, ValueError, EOFError, AttributeError, TypeError, LookupError, ArithmeticError, MemoryError, SyntaxError),
    *(pickle.UnpicklingError, tokenize.TokenError, RecursionError),
)
# What a pickled array of arrays of numbers is made of; nothing else is loaded.
_OF_ARRAYS = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}


def pairs_of_file(file: Path, queries: ImageTable, database: ImageTable) -> NDArray[np.int64]:
    """Return what a file says is right: int64 [M,2], a row of the queries and a row of the database each.

    Args:
        file: a .csv with a line for each query: its name, then those of its database images; or a .npy of pairs [M,2],
            of padded rows [Q,K], or an array of arrays.

    Raises:
        UserError: it is not there, cannot be read, or names what the tables do not have.
    """
    if not is_file(file):
        raise UserError(f"--ground_truth {file}: no such file. Expected a .csv or .npy of the right database images")
    pairs = _pairs_of_csv(file, queries, database) if file.suffix.lower() != ".npy" else _pairs_of_npy(file)
    table = np.array(list(pairs), np.int64).reshape(-1, 2)
    for column, size, what in ((0, len(queries), "queries"), (1, len(database), "database images")):
        if len(table) and not 0 <= table[:, column].min() <= table[:, column].max() < size:
            raise UserError(
                f"--ground_truth {file}: names row {table[:, column].max()} of {size} {what}. Expected rows from 0"
            )
    return table


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
