"""MSLS's metadata of one city, as published: positions, panoramas and the types of queries."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_vg.challenge.choices import ALL
from vgbench.errors import UserError

LEVELS = ("database", "query")
POSITIONS, TYPES, RAW = "postprocessed.csv", "subtask_index.csv", "raw.csv"

Row = dict[str, str]


@dataclass(frozen=True)
class Level:
    """The queries or the database of a city.

    Attributes:
        keys: of the images, N of them.
        utm: easting and northing, metres, float64 [N,2].
        usable: bool [N]: no panorama and of the type that is asked for.
    """

    keys: list[str]
    utm: NDArray[np.float64]
    usable: NDArray[np.bool_]


def read_level(folders: list[Path], query_type: str = ALL) -> Level:
    """Read the images of one level of a city.

    Args:
        folders: where its files may lie; the first that has one counts.
        query_type: `all` or one of QUERY_TYPES; where there is no subtask_index.csv, all images are of the type `all`.

    Raises:
        UserError: files that miss or are not in step with each other.
    """
    positions = find(folders, POSITIONS)
    if positions is None:
        raise UserError(f"{folders[0]}/{POSITIONS}: no such file. Expected MSLS's ground truth, unpacked")
    rows = list(read_rows(positions))
    usable = np.ones(len(rows), np.bool_)
    types = find(folders, TYPES)
    if types is not None:
        usable &= column(types, query_type, len(rows))
    elif query_type != ALL:
        raise UserError(f"{folders[0]}/{TYPES}: no such file. Expected it for --query_type {query_type}")
    raw = find(folders, RAW)
    if raw is not None:
        usable &= ~column(raw, "pano", len(rows))
    return Level([row["key"] for row in rows], utm_of(rows), usable)


def find(folders: list[Path], name: str) -> Path | None:
    """Return the first file of a name in any of the folders."""
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def column(file: Path, name: str, count: int) -> NDArray[np.bool_]:
    """Return a column of True and False, bool [count]. Raises UserError: no such column, or not `count` lines."""
    rows = list(read_rows(file))
    if len(rows) != count:
        raise UserError(f"{file}: {len(rows)} lines. Expected {count}, as in {POSITIONS}")
    if rows and name not in rows[0]:
        raise UserError(f"{file}: no column {name}. Expected a file of MSLS's metadata")
    return np.array([is_true(row[name]) for row in rows], np.bool_)


def utm_of(rows: list[Row]) -> NDArray[np.float64]:
    """Return easting and northing of rows of postprocessed.csv, metres, float64 [N,2]."""
    return np.array([[float(row["easting"]), float(row["northing"])] for row in rows], np.float64).reshape(-1, 2)


def read_rows(file: Path) -> Iterator[Row]:
    """Yield the rows of a CSV by the names of its columns, whose order varies; raises UserError for another file."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            yield from csv.DictReader(lines)
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}). Expected a CSV of MSLS's metadata") from error


def in_step(raw_file: Path, file: Path) -> Iterator[tuple[Row, Row]]:
    """Yield the rows of two files of the same images in the same order; raises UserError where they are not."""
    first, second = list(read_rows(raw_file)), list(read_rows(file))
    if [row["key"] for row in first] != [row["key"] for row in second]:
        raise UserError(f"{file}: its keys are not those of {raw_file.name}, in that order. Expected them in step")
    return zip(first, second, strict=True)


def is_true(text: str) -> bool:
    """Whether a cell says True."""
    return text.strip().lower() in ("true", "1")
