"""Names in the protocol's usual form, thousands at a time: one regular expression over all of them, then columns.

A name at a time costs twice as long as listing the folder. What is not in the usual form is left to `protocol`, which
reads it with the same result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 1024  # a kilobyte each while they are read
_METRES = rb"([+-]?\d{1,15}(?:\.(\d{0,15}))?)"
_DEGREES = rb"((?:[+-]?\d{1,9}(?:\.(\d{0,15}))?)?)"
_HEADING = rb"((?:[+-]?\d{1,9}(?:\.\d{0,15})?)?)"
_ZONE = rb"((?:0?[1-9]|[1-5]\d|60)?)"
_ANY, _KEPT = rb"[^@\n/]*", rb"([^@\n/]*)"
_FIELDS = (
    _ANY, _METRES, _METRES, _ZONE, rb"([A-Za-z]?)", _DEGREES, _DEGREES, _ANY, _ANY, _HEADING, _ANY, _ANY, _ANY, _KEPT,
    _KEPT, rb"\.[A-Za-z]+",
)  # fmt: skip
_USUAL = re.compile(rb"^" + rb"@".join(_FIELDS) + rb"$", re.MULTILINE)


@dataclass(frozen=True)
class Columns:
    """What N names say, a column a field.

    Attributes:
        paths: the relative paths.
        utm: float64 [N,2], metres.
        metre_decimals: int64 [N], of the number that has fewer.
        zones: UTM zone and letter of each, as written.
        latitude, longitude: float64 [N], degrees, NaN where a name does not say.
        degree_decimals: int64 [N], of the number that has fewer.
        heading: float64 [N], degrees, NaN where a name does not say.
        timestamps, notes: as written.
    """

    paths: Sequence[bytes]
    utm: NDArray[np.float64]
    metre_decimals: NDArray[np.int64]
    zones: Sequence[tuple[bytes, bytes]]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    degree_decimals: NDArray[np.int64]
    heading: NDArray[np.float64]
    timestamps: Sequence[bytes]
    notes: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.paths)


def in_blocks(names: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Part names into lists of `AT_ONCE` and fewer at the end."""
    remaining = iter(names)
    while block := list(islice(remaining, AT_ONCE)):
        yield block


def read_usual(paths: Sequence[bytes]) -> Columns | None:
    """Return what the names of some image files say; None where one is not in the usual form."""
    lines = b"\n".join(paths)
    if b"/" in lines:
        lines = b"\n".join([path.rpartition(b"/")[2] for path in paths])
    if lines.count(b"\n") != len(paths) - 1:  # a name with a line feed in it
        return None
    found = _USUAL.findall(lines)
    if len(found) != len(paths):
        return None
    (
        east, east_decimals, north, north_decimals, zone, letter, latitude, latitude_decimals, longitude,
        longitude_decimals, heading, timestamps, notes,
    ) = zip(*found, strict=True)  # fmt: skip
    return Columns(
        paths,
        np.stack([_numbers(east), _numbers(north)], axis=1),
        np.minimum(_lengths(east_decimals), _lengths(north_decimals)),
        list(zip(zone, letter, strict=True)),
        _numbers(latitude),
        _numbers(longitude),
        np.minimum(_lengths(latitude_decimals), _lengths(longitude_decimals)),
        _numbers(heading),
        timestamps,
        notes,
    )


def _numbers(texts: Sequence[bytes]) -> NDArray[np.float64]:
    if not any(texts):
        return np.full(len(texts), np.nan)
    if b"" in texts:
        return np.array([float(text or b"nan") for text in texts])
    return np.array(list(map(float, texts)))


def _lengths(texts: Sequence[bytes]) -> NDArray[np.int64]:
    if not any(texts):
        return np.zeros(len(texts), np.int64)
    return np.array(list(map(len, texts)))
