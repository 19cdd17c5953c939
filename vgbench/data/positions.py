"""Positions as positions: what is wrong with those that file names carry, and all of them in one frame of metres.

Distances between UTM metres of two zones mean nothing: two cities can lie at the same numbers. What names say of zones
and degrees is kept while a folder is read, checked, and used to bring everything into one frame.
"""

from __future__ import annotations

import functools
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vgbench.data.many_names import Columns
from vgbench.data.table import ImageTable
from vgbench.data.utm import FRAME_SHIFT, LETTERS, NORTHERNMOST, SOUTHERNMOST, project, to_latitude_longitude, zone_of
from vgbench.data.utm import within_frame as _within_frame
from vgbench.errors import UserError

PLAIN_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)
_DEGREE = 111_320.0  # metres of a degree of latitude
_SLACK = 2.0  # metres by which degrees of five decimals and UTM of two may differ, and a little more
_FINE = 3  # decimals from which a number within the range of degrees looks like degrees
_FARTHEST = 1e8  # metres from the origin of a frame: no place is as far, and squares of more lose metres
_METRES = "@UTM_east@UTM_north@"
_TOWN = 2.0  # of degrees: no set in metres is that small


@dataclass(frozen=True)
class Finding:
    """What is wrong with the positions of some images.

    Attributes:
        text: one line that names an example, says what was expected, and what mends it.
        count: how many images it is about.
        refused: whether a run must not go on with them; else it warns.
    """

    text: str
    count: int
    refused: bool


@dataclass(frozen=True)
class Said:
    """What N file names say of their positions beyond two numbers.

    Attributes:
        zone: int8 [N], the UTM zone, negative in the southern hemisphere; 0 where a name does not say.
        latitude, longitude: float64 [N], degrees, NaN where a name does not say.
        decimals: int8 [N], of those degrees.
        fine: bool [N], whether the two numbers in the metre fields have as many decimals as degrees need.
    """

    zone: NDArray[np.int8]
    decimals: NDArray[np.int8]
    fine: NDArray[np.bool_]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]


class SaidPositions:
    """Gathers what file names say of their positions, one name at a time, 19 bytes each."""

    def __init__(self) -> None:
        self._zone, self._decimals, self._fine = array("b"), array("b"), array("b")
        self._latitude, self._longitude = array("d"), array("d")

    def add(self, fields: Sequence[str]) -> None:
        """Take up the fields of one name, as `protocol` parts them."""
        latitude, longitude, decimals = float("nan"), float("nan"), 0
        own_order = len(fields) > 3 and fields[3] != "" and not is_zone(fields[3])
        if len(fields) > 6 and not own_order:
            latitude, longitude = _degrees(fields[5]), _degrees(fields[6])
            decimals = min(_decimals(fields[5]), _decimals(fields[6]), 100)
        self._zone.append(0 if own_order else _zone_code(fields, latitude, longitude))
        self._decimals.append(decimals)
        self._fine.append(min(_decimals(fields[1]), _decimals(fields[2])) >= _FINE)
        self._latitude.append(latitude)
        self._longitude.append(longitude)

    def extend(self, columns: Columns) -> None:
        """Take up many names, as `add` each."""
        words = {pair: ("", "", "", *map(bytes.decode, pair)) for pair in dict.fromkeys(columns.zones)}
        # Of a zone with a letter, degrees tell at most whether they are southern.
        plain = {pair for pair, fields in words.items() if fields[3] and fields[4].upper() in (*LETTERS,)}
        degrees = zip(columns.latitude.tolist(), columns.longitude.tolist(), strict=True)
        if plain == words.keys():
            codes = {pair: [_zone_code(words[pair], side, 0.0) for side in (0.0, -1.0)] for pair in plain}
        if plain == words.keys() and len(plain) == 1:  # as a rule
            [(north, south)] = codes.values()
            self._zone.frombytes(np.where(columns.latitude < 0, south, north).astype(np.int8).tobytes())
        elif plain == words.keys():
            self._zone.extend(codes[pair][place[0] < 0] for pair, place in zip(columns.zones, degrees, strict=True))
        else:
            self._zone.extend(
                _zone_code(words[pair], *place) for pair, place in zip(columns.zones, degrees, strict=True)
            )
        self._decimals.frombytes(columns.degree_decimals.astype(np.int8).tobytes())
        self._fine.frombytes((columns.metre_decimals >= _FINE).astype(np.int8).tobytes())
        self._latitude.frombytes(columns.latitude.tobytes())
        self._longitude.frombytes(columns.longitude.tobytes())

    def arrays(self) -> Said:
        """Return what was gathered; nothing can be added afterwards."""
        return Said(
            np.asarray(self._zone),
            np.asarray(self._decimals),
            np.asarray(self._fine).view(np.bool_),
            np.asarray(self._latitude),
            np.asarray(self._longitude),
        )


def is_plain_decimal(text: str) -> bool:
    """Say whether a text is digits with at most a sign and a point: `float` takes underscores, exponents and nan."""
    return PLAIN_DECIMAL.fullmatch(text) is not None


@functools.lru_cache(1024)  # of millions of names, which have few zones
def is_zone(text: str) -> bool:
    """Say whether the zone field of a name is a UTM zone; else the name keeps another order of fields."""
    number = text[:-2] if text.endswith(".0") else text
    return number.isascii() and number.isdigit() and 1 <= int(number) <= 60


def position_findings(table: ImageTable, said: Said) -> list[Finding]:
    """Return what is wrong with the positions of one folder's images, as its names say them.

    Found are degrees in the metre fields, degrees out of range, degrees that contradict the metres of the same name,
    metres that are nowhere in their zone, and some names with and some without a zone where zones differ.
    """
    if not len(table):
        return []
    east, north = table.utm.T
    mend = "rename these files or remove them"
    with np.errstate(invalid="ignore"):
        beyond = np.asarray((np.abs(table.utm) > _FARTHEST).any(1))
        out_of_range = (np.abs(said.latitude) > 90) | (np.abs(said.longitude) > 180)
    # Half a dozen zones to either side of its own are more than any set needs.
    outside = (said.zone != 0) & ((np.abs(east - 500_000) > 3e6) | (np.abs(north) > 2.1e7))
    checks: tuple[tuple[NDArray[np.bool_], bool, str, str], ...] = (
        (beyond, True, f"metres beyond {_FARTHEST:.0e}", f"{_METRES} in metres; {mend}"),
        (
            _degrees_as_metres(table, said), True, "degrees where metres are expected",
            f"{_METRES} in metres; to make them from latitude and longitude: python3 -m datasets_vg prepare folder, or "
            "vgbench.data.utm.from_latitude_longitude",
        ),
        (
            out_of_range, False, "a latitude or longitude out of range",
            "latitudes from -90 to 90 and longitudes from -180 to 180 in fields 5 and 6; mend or empty them",
        ),
        (outside, True, "metres that are nowhere in a UTM zone", f"{_METRES} first; {mend}"),
    )  # fmt: skip
    found = [
        Finding(
            f"{table.root}: {_count(bad)} with {what}, such as {_name(table, bad)}. Expected {expected}",
            int(bad.sum()),
            refused,
        )
        for bad, refused, what, expected in checks
        if bad.any()
    ]
    return [*found, *filter(None, (_contradictions(table, said), _zones_unsaid(table, said.zone)))]


def in_one_frame(tables: Sequence[ImageTable]) -> tuple[list[ImageTable], Finding | None]:
    """Bring tables into one frame of metres, so that distances among all their images are true.

    Towns whose images lie in several UTM zones are projected into the zone that most of them have. Towns far from each
    other keep a zone each, and their frames are moved 10,000 km apart, so that none lies on another. Where one zone or
    none is named, nothing changes.

    Returns:
        (the tables, their metres and zones changed; what was done, None for nothing)

    Raises:
        UserError: several zones are named, and some names say none.
    """
    if not tables:
        return [], None
    zone = np.concatenate([table.zone for table in tables])
    utm = np.concatenate([table.utm for table in tables])
    known = np.unique(zone[zone != 0])
    if len(known) < 2:
        return list(tables), None
    where = " and ".join(str(table.root) for table in tables)
    if (zone == 0).any():
        example = next(_name(table, table.zone == 0) for table in tables if (table.zone == 0).any())
        raise UserError(_unsaid_finding(where, zone, example).text)
    moved, frames = _framed(utm, zone)
    if np.array_equal(moved, utm) and np.array_equal(frames, zone):
        return list(tables), None
    starts = np.cumsum([0, *(len(table) for table in tables)]).tolist()
    parts = [slice(start, stop) for start, stop in pairwise(starts)]
    changed = [table.at(moved[part], frames[part]) for table, part in zip(tables, parts, strict=True)]
    counts = ", ".join(f"{_zone_text(code)} {count}" for code, count in Counter(zone.tolist()).most_common())
    into = np.unique(frames).tolist()
    done = (
        f"all projected into zone {_zone_text(into[0])}"
        if len(into) == 1
        else f"each of {len(into)} far regions projected into one zone of its own, and kept apart"
    )
    text = (
        f"{where}: UTM zones differ (images a zone: {counts}): {done}. Expected one zone for a split; to write it so: "
        "python3 -m datasets_vg prepare folder"
    )
    return changed, Finding(text, len(zone), refused=False)


def _degrees_as_metres(table: ImageTable, said: Said) -> NDArray[np.bool_]:
    """Say which names surely have degrees in the metre fields, bool [N]."""
    east, north = np.abs(table.utm).T
    in_range = ((east <= 180) & (north <= 90)) | ((east <= 90) & (north <= 180))
    where = (said.zone != 0) | np.isfinite(said.latitude)
    sure = in_range & where  # no place of any zone is within 180 m of its origin
    if in_range.all() and not where.any():
        small = bool((np.ptp(table.utm, axis=0) < _TOWN).all())
        fraction = (table.utm % 1 != 0).any()
        if small and fraction:
            sure = in_range
    elif not in_range.all():
        # Among metres of seven digits a name in degrees stands out.
        sure |= in_range & said.fine & (np.median(np.maximum(east, north)) > 1000)
    return np.asarray(sure)


def _contradictions(table: ImageTable, said: Said) -> Finding | None:
    """Degrees and metres of one name that are two places, as far as the degrees' decimals tell."""
    off = np.zeros(len(table))
    with np.errstate(invalid="ignore"):
        usable = (said.latitude >= SOUTHERNMOST) & (said.latitude <= NORTHERNMOST) & (np.abs(said.longitude) <= 180)
    for code in np.unique(said.zone[said.zone != 0]).tolist():
        rows = np.flatnonzero((said.zone == code) & usable)
        if not len(rows):
            continue  # and PROJ, which takes a while to import, is left alone
        there = project(said.latitude[rows], said.longitude[rows], abs(code), south=code < 0)
        off[rows] = np.hypot(*(there - table.utm[rows]).T)
    tolerance = _SLACK + _DEGREE * 10.0 ** -said.decimals.astype(np.float64)
    bad = off > tolerance
    if not bad.any():
        return None
    worst = int(np.argmax(np.where(bad, off, 0)))
    far = f"{off[worst]:.0f} m" if off[worst] < 1e4 else f"{off[worst] / 1000:.0f} km"
    text = (
        f"{table.root}: {_count(bad)} whose latitude and longitude contradict the UTM metres of the same name, such as "
        f"{table.relative_path(worst)} ({far} apart). Expected one place; the metres count"
    )
    return Finding(text, int(bad.sum()), refused=False)


def _zones_unsaid(table: ImageTable, zone: NDArray[np.int8]) -> Finding | None:
    if len(np.unique(zone[zone != 0])) < 2 or zone.all():
        return None
    return _unsaid_finding(str(table.root), zone, _name(table, zone == 0))


def _unsaid_finding(where: str, zone: NDArray[np.int8], example: str) -> Finding:
    known = ", ".join(_zone_text(code) for code in np.unique(zone[zone != 0]).tolist())
    count = int((zone == 0).sum())
    text = (
        f"{where}: zones {known} are named, and {count} names say none, such as {example}. Expected a UTM zone, or "
        "latitude and longitude, in every name, to project all into one zone; or one zone in all"
    )
    return Finding(text, count, refused=True)


def _framed(utm: NDArray[np.float64], zone: NDArray[np.int8]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Return metres and zones in one frame for each region, the frames far from each other, largest region first."""
    utm = _within_frame(utm)
    degrees = np.empty_like(utm)
    for code in np.unique(zone).tolist():
        rows = zone == code
        east, north = utm[rows].T
        degrees[rows] = np.stack(to_latitude_longitude(east, north, abs(code), "N" if code > 0 else "M"), axis=1)
    moved, frames = utm.copy(), zone.copy()
    region = _regions(degrees)
    for number in range(int(region.max()) + 1):
        rows = np.flatnonzero(region == number)
        [[code, _], *others] = Counter(zone[rows].tolist()).most_common()
        frames[rows] = code
        if others:
            foreign = rows[zone[rows] != code]
            latitude, longitude = degrees[foreign].T
            moved[foreign] = project(latitude, longitude, abs(code), south=code < 0)
    for number, (code, _) in enumerate(Counter(frames.tolist()).most_common()):
        moved[frames == code, 0] += number * FRAME_SHIFT
    return moved, frames


def _regions(degrees: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number the regions of positions (latitude, longitude): cells of a degree that touch are one region, int64 [N]."""
    cells = np.floor(degrees).astype(np.int64)
    cells[:, 1] = (cells[:, 1] + 180) % 360 - 180
    distinct, which = np.unique(cells, axis=0, return_inverse=True)
    number = dict.fromkeys(map(tuple, distinct.tolist()), -1)
    count = 0
    for start in number:
        if number[start] >= 0:
            continue
        waiting = [start]
        number[start] = count
        while waiting:
            latitude, longitude = waiting.pop()
            for up in (-1, 0, 1):
                for right in (-1, 0, 1):
                    # Round the date line, where longitude 180 follows -180.
                    near = (latitude + up, (longitude + right + 180) % 360 - 180)
                    if number.get(near, 0) < 0:
                        number[near] = count
                        waiting.append(near)
        count += 1
    of_cell = np.array([number[cell] for cell in map(tuple, distinct.tolist())], np.int64)
    return np.asarray(of_cell[which.reshape(-1)])


def _zone_code(fields: Sequence[str], latitude: float, longitude: float) -> int:
    """Return the zone of a name as `Said` keeps it."""
    number = int(fields[3].partition(".")[0]) if len(fields) > 3 and is_zone(fields[3]) else 0
    letter = fields[4].upper() if len(fields) > 4 else ""
    if not number and abs(longitude) <= 180 and SOUTHERNMOST <= latitude <= NORTHERNMOST:
        number = zone_of(longitude, latitude)
    if len(letter) == 1 and letter in LETTERS:
        # Some write S for the southern hemisphere, which is also a band of the northern one: degrees tell.
        return -number if letter < "N" or (letter == "S" and latitude < 0) else number
    if abs(latitude) <= 90:
        return number if latitude >= 0 else -number
    return 0


def _degrees(text: str) -> float:
    return float(text) if is_plain_decimal(text) else float("nan")


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _zone_text(code: int) -> str:
    return f"{abs(code)} {'north' if code > 0 else 'south'}"


def _count(rows: NDArray[np.bool_]) -> str:
    count = int(rows.sum())
    return f"{count} of {len(rows)} names" if len(rows) > 1 else "a name"


def _name(table: ImageTable, rows: NDArray[np.bool_]) -> str:
    return table.relative_path(int(np.argmax(rows)))


def in_same_frame(degrees: NDArray[np.float64], zone: NDArray[np.int8]) -> NDArray[np.float64]:
    """Project positions into the frame of a table: float64 [M,2], latitude and longitude -> metres; NaN if unknown.

    Args:
        zone: int8 [N], of the table; where it names several, none of the positions is known.
    """
    utm = np.full(degrees.shape, np.nan)
    known = np.unique(zone)
    rows = np.flatnonzero(np.isfinite(degrees).all(1) & (np.abs(degrees[:, 0]) <= NORTHERNMOST))
    if len(known) == 1 and known[0] != 0 and len(rows):
        latitude, longitude = degrees[rows].T
        utm[rows] = project(latitude, longitude, abs(int(known[0])), south=bool(known[0] < 0))
    return utm
