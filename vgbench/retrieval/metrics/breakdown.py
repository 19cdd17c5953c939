"""R@1 by what the file names say of the queries: which of them are hard."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.data.positives import FEW_PAIRS, Neighbours, squared_metres
from vgbench.data.protocol import Split
from vgbench.data.table import ImageTable

HEADING_EDGES = (15.0, 30.0, 60.0, 90.0, 120.0)
METRE_EDGES = (2.0, 5.0, 10.0, 15.0, 25.0, 50.0)
MOST_NOTES = 20
_MONTHS = calendar.month_name

Rows = list[dict[str, Any]]


def breakdown(split: Split, neighbours: Neighbours, right: NDArray[np.bool_]) -> dict[str, Rows]:
    """Return R@1 by field -> rows of `value`, `queries` and `recall_at_1` (percent), fields that are known only.

    The fields: `note`, `month` and `hour` of the query; `heading_difference` (degrees) to its nearest positive, which
    of several at one point is the one that looks most alike; `nearest_database_image` (metres). A query for which a
    field is not known is left out of it, and a field with one value only is left out altogether.

    Args:
        neighbours: the positives of each query.
        right: bool [Q], whether the best match is right.
    """
    queries = split.queries
    times = [queries.timestamp(row) for row in range(len(queries))]
    months = np.array([_number(time[4:6], 1, 12) for time in times])
    hours = np.array([_number(time[9:11], 0, 23) for time in times])
    metres = nearest_metres(split)
    fields = {
        "note": _by_note(queries, right),
        "month": _by_number(months, right, lambda month: _MONTHS[month]),
        "hour": _by_number(hours, right, lambda hour: f"{hour:02}:00"),
        "heading_difference": _by_bin(heading_differences(split, neighbours, metres), HEADING_EDGES, "°", right),
        "nearest_database_image": _by_bin(metres, METRE_EDGES, " m", right),
    }
    return {name: rows for name, rows in fields.items() if len(rows) > 1}


def nearest_metres(split: Split) -> NDArray[np.float64]:
    """Return how far the nearest database image is from each query, float64 [Q]."""
    queries, database = split.queries.utm, split.database.utm
    if len(queries) * len(database) <= FEW_PAIRS:
        nearest: NDArray[np.float64] = np.concatenate([one.min(1) for one in squared_metres(queries, database)])
        return np.sqrt(nearest)
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(database, leafsize=32, balanced_tree=False).query(queries, workers=-1)
    return np.asarray(distance)


def heading_differences(split: Split, neighbours: Neighbours, nearest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angle between each query and its nearest positive, 0 to 180 degrees, float64 [Q]; NaN if unknown.

    Args:
        nearest: float64 [Q], metres to the nearest database image.
    """
    found = np.full(len(split.queries), np.nan)
    owners = np.repeat(np.arange(len(found)), neighbours.counts)
    off = np.hypot(*(split.database.utm[neighbours.indices] - split.queries.utm[owners]).T)
    turn = split.database.heading[neighbours.indices] - split.queries.heading[owners].astype(np.float64)
    turn = np.abs((turn + 180) % 360 - 180)
    # Views of one panorama stand at one point, up to the two decimals of their names.
    usable = (off <= nearest[owners] + 0.02) & np.isfinite(turn)
    np.fmin.at(found, owners[usable], turn[usable])
    return found


def _by_note(queries: ImageTable, right: NDArray[np.bool_]) -> Rows:
    counts = np.bincount(queries.note_codes, minlength=len(queries.note_vocabulary))
    named = [code for code in np.argsort(-counts, kind="stable") if counts[code] and queries.note_vocabulary[code]]
    if counts.max(initial=0) < 2 or len(named) > len(queries) / 2:
        return []  # each its own: a place or a name, not a kind
    shown, others = named[:MOST_NOTES], named[MOST_NOTES:]
    rows = [_row(queries.note_vocabulary[code], queries.note_codes == code, right) for code in shown]
    return rows + ([_row(f"{len(others)} others", np.isin(queries.note_codes, others), right)] if others else [])


def _by_number(values: NDArray[np.int64], right: NDArray[np.bool_], name: Any) -> Rows:
    return [_row(name(int(value)), values == value, right) for value in np.unique(values[values >= 0])]


def _by_bin(values: NDArray[np.float64], edges: Sequence[float], unit: str, right: NDArray[np.bool_]) -> Rows:
    known = np.isfinite(values)
    bin_of = np.searchsorted(edges, values, side="left")
    texts = [f"0 to {edges[0]:g}{unit}"]
    texts += [f"{low:g} to {high:g}{unit}" for low, high in pairwise(edges)]
    texts += [f"over {edges[-1]:g}{unit}"]
    inside = ((text, known & (bin_of == number)) for number, text in enumerate(texts))
    return [_row(text, rows, right) for text, rows in inside if rows.any()]


def _row(value: str, rows: NDArray[np.bool_], right: NDArray[np.bool_]) -> dict[str, Any]:
    share = 100.0 * float(right[rows].mean())
    return {"value": value, "queries": int(rows.sum()), "recall_at_1": round(share, 3)}


def _number(text: str, low: int, high: int) -> int:
    """Return the number that two digits are, -1 where they are none or out of range."""
    value = int(text) if len(text) == 2 and text.isascii() and text.isdigit() else -1
    return value if low <= value <= high else -1
