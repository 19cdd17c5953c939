"""Which pictures go into train, val and test, and which of each are database and queries; no place on both sides."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from datasets_vg.own.shots import Shot
from vgbench.data.layout import SPLITS
from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

SHARES = (0.6, 0.2, 0.2)
"""Of the pictures, in train, val and test, before what lies too near a border is left out."""
QUERY_EVERY = 4
"""Where all pictures are of one day, every fourth is a query."""

Rows = NDArray[np.int64]
Where = list[tuple[str, str] | None]


def assign(shots: Sequence[Shot], utm: NDArray[np.float64], way: str, buffer: float) -> Where:
    """Return the (split, part) of each picture, such as ("train", "queries"); None for those left out.

    "date": all are test; those of the last day are queries, and where there is one day, every fourth. "area": train,
    val and test are parts of the region along its longer direction; in each, queries are chosen as by date. Pictures
    within `buffer` metres of one that goes into a later split are left out. "hand": the folders that pictures lie in
    (.../train/database/...), or the columns `split` and `part` of a table, say it; what says no split is test, and
    without a part queries are chosen as by date.

    Args:
        utm: float64 [N,2], metres.
        buffer: metres.

    Raises:
        UserError: by hand, pictures of two splits within `buffer` metres; or a split without database or queries.
    """
    names = np.full(len(shots), "test", dtype="<U5")
    parts = [""] * len(shots)
    if way == "hand":
        chosen = [_by_hand(shot) for shot in shots]
        names = np.array([split for split, _ in chosen])
        parts = [part for _, part in chosen]
    else:
        _hint_at_hand(shots)
        names = _areas(utm) if way == "area" else names
    kept = _apart(shots, utm, names, buffer, refuse=way == "hand")
    assigned: Where = [None] * len(shots)
    for split in SPLITS:
        rows = np.flatnonzero((names == split) & kept)
        if not len(rows):
            continue
        queries = _queries_by_date([shots[row] for row in rows.tolist()])
        for row, is_query in zip(rows.tolist(), queries, strict=True):
            assigned[row] = (split, parts[row] or ("queries" if is_query else "database"))
        found = {one[1] for one in assigned if one is not None and one[0] == split}
        if "database" not in found or not any(part.startswith("queries") for part in found):
            count = f"{len(rows)} picture{'s' if len(rows) > 1 else ''}"
            raise UserError(
                f"{split}: {count}, {' and '.join(sorted(found))} alone. Expected both database and queries: more "
                "pictures, another --split, or by hand"
            )
    return assigned


def _hint_at_hand(shots: Sequence[Shot]) -> None:
    """Say that folders or columns name splits, where they are not asked."""
    by_hand = [shot for shot in shots if shot.split or shot.part or not {*SPLITS}.isdisjoint(shot.name.split("/")[:-1])]
    if by_hand:
        text = "%d pictures have a split of their own, such as %s, which is not used. Expected --split hand to use it"
        LOG.warning(text, len(by_hand), by_hand[0].name)


def _areas(utm: NDArray[np.float64]) -> NDArray[np.str_]:
    """Divide positions along the direction in which they spread most."""
    centred = utm - utm.mean(0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0] if len(utm) > 1 else np.array([1.0, 0.0])
    # One way round for the same pictures, whatever the sign that the decomposition gives.
    along = centred @ (direction if direction[np.abs(direction).argmax()] > 0 else -direction)
    borders = np.quantile(along, np.cumsum(SHARES)[:-1])
    return np.asarray(np.array(SPLITS)[np.searchsorted(borders, along, side="left")])


def _by_hand(shot: Shot) -> tuple[str, str]:
    folders = shot.name.split("/")[:-1]
    split = shot.split or next((folder for folder in folders if folder in SPLITS), "test")
    part = shot.part or next((f for f in folders if f == "database" or f.startswith("queries")), "")
    if split not in SPLITS or not (part in ("", "database") or part.startswith("queries")):
        raise UserError(
            f"{shot.name}: split {split!r}, part {part!r}. Expected train, val or test, and database or queries"
        )
    return split, part


def _apart(
    shots: Sequence[Shot], utm: NDArray[np.float64], names: NDArray[np.str_], buffer: float, *, refuse: bool
) -> NDArray[np.bool_]:
    """Say which pictures lie more than `buffer` metres from all of later splits, bool [N]."""
    kept = np.ones(len(utm), np.bool_)
    for number, split in enumerate(SPLITS[:-1]):
        rows: list[int] = np.flatnonzero(names == split).tolist()
        later: list[int] = np.flatnonzero(np.isin(names, SPLITS[number + 1 :])).tolist()
        if not len(rows) or not len(later) or buffer == 0:
            continue
        metres, nearest = cKDTree(utm[later]).query(utm[rows])
        near = metres <= buffer
        if refuse and near.any():
            first = int(np.argmax(near))
            raise UserError(
                f"{shots[rows[first]].name} ({split}) and {shots[later[nearest[first]]].name} are {metres[first]:.0f} "
                f"m apart, as {int(near.sum())} of {split} are from later splits. Expected no place on both sides; "
                "move them, or allow it by --buffer 0"
            )
        kept[np.array(rows)[near]] = False
    return kept


def _queries_by_date(shots: Sequence[Shot]) -> list[bool]:
    days = sorted({shot.day for shot in shots if shot.day})
    if len(days) > 1:
        return [shot.day == days[-1] for shot in shots]
    return [number % QUERY_EVERY == QUERY_EVERY - 1 for number in range(len(shots))]
