"""Which database images are right for which query: within a radius, with like headings, by frames, by a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgbench.data.ground_truth_file import pairs_of_file
from vgbench.data.name_fields import key_of
from vgbench.data.sequences import SequenceTable, lifted
from vgbench.data.table import ImageTable
from vgbench.errors import UserError

_DIGITS = re.compile(r"\d+")
_QUERIES_AT_ONCE = 1024  # the tree answers with Python lists, which this keeps few
# Up to so many pairs are simply compared, in blocks: importing scipy takes longer (0.4 s).
FEW_PAIRS, _PAIRS_AT_ONCE = 2**23, 2**18


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For each of Q queries the database rows within a radius.

    Attributes:
        indptr: int64 [Q+1], where each query's rows start in `indices`.
        indices: int64 [nnz], database rows, ascending within a query.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def of(self, query: int) -> NDArray[np.int64]:
        """Return the database rows of one query, int64 [n], ascending (a view)."""
        query = range(len(self))[query]
        return self.indices[self.indptr[query] : self.indptr[query + 1]]

    def select(self, queries: NDArray[np.int64]) -> Neighbours:
        """Return those of some queries, int64 [M], in that order."""
        rows = [self.of(int(query)) for query in queries]
        indptr = np.concatenate([[0], np.cumsum([len(one) for one in rows], dtype=np.int64)]).astype(np.int64)
        return Neighbours(indptr, np.concatenate(rows) if rows else np.empty(0, np.int64))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many database rows each query has, int64 [Q]."""
        return np.diff(self.indptr)

    def without(self) -> NDArray[np.int64]:
        """Return the queries that have no database row, int64 [n], ascending."""
        return np.flatnonzero(self.counts == 0)

    @classmethod
    def from_csr(cls, indptr: NDArray[np.int64], indices: NDArray[np.int64]) -> Neighbours:
        """Sort within queries and wrap two CSR arrays, int64 [Q+1] and [M]; raises ValueError where they do not fit."""
        indptr, indices = np.asarray(indptr, np.int64), np.asarray(indices, np.int64)
        if indptr.ndim != 1 or not len(indptr) or indptr[0] != 0 or indptr[-1] != len(indices):
            raise ValueError("indptr must start at 0 and end at len(indices)")
        counts = np.diff(indptr)
        if (counts < 0).any():
            raise ValueError("indptr must not decrease")
        rows = np.repeat(np.arange(len(counts)), counts)
        return cls(indptr, indices[np.lexsort((indices, rows))])

    @classmethod
    def brute(cls, queries_utm: NDArray[np.float64], database_utm: NDArray[np.float64], radius_m: float) -> Neighbours:
        """Compare every pair of positions [Q,2] and [N,2], O(Q N) memory: the reference of `neighbours_within`."""
        _check(queries_utm, database_utm, radius_m)
        near = ((queries_utm[:, None] - database_utm[None]) ** 2).sum(-1) <= radius_m**2
        indptr = np.concatenate([[0], np.cumsum(near.sum(1))]).astype(np.int64)
        return cls(indptr, np.nonzero(near)[1].astype(np.int64))


def neighbours_within(
    queries_utm: NDArray[np.float64], database_utm: NDArray[np.float64], radius_m: float
) -> Neighbours:
    """Find the database images within a radius of each query, among many with a k-d tree.

    Args:
        queries_utm: float64 [Q,2], metres.
        database_utm: float64 [N,2], metres.
        radius_m: metres, inclusive.

    Raises:
        ValueError: arrays of another shape, or a radius that is negative or not a number.
    """
    _check(queries_utm, database_utm, radius_m)
    indptr = np.zeros(len(queries_utm) + 1, np.int64)
    if not len(database_utm) or not len(queries_utm):
        return Neighbours(indptr, np.empty(0, np.int64))
    if len(queries_utm) * len(database_utm) <= FEW_PAIRS:
        near = [squared <= radius_m**2 for squared in squared_metres(queries_utm, database_utm)]
        indptr[1:] = np.cumsum(np.concatenate([one.sum(1) for one in near]))
        return Neighbours(indptr, np.concatenate([one.nonzero()[1] for one in near]).astype(np.int64))
    from scipy.spatial import cKDTree

    # Street view has a dozen images at the very same point; a balanced tree splits such points again and again.
    tree = cKDTree(database_utm, leafsize=32, balanced_tree=False)
    parts: list[NDArray[np.int64]] = []
    for start in range(0, len(queries_utm), _QUERIES_AT_ONCE):
        block = queries_utm[start : start + _QUERIES_AT_ONCE]
        found = tree.query_ball_point(block, radius_m, workers=-1, return_sorted=True)
        counts = np.fromiter(map(len, found), np.int64, len(block))
        indptr[start + 1 : start + 1 + len(block)] = counts
        parts.append(np.fromiter(chain.from_iterable(found), np.int64, int(counts.sum())))
    return Neighbours(np.cumsum(indptr), np.concatenate(parts))


def squared_metres(
    queries_utm: NDArray[np.float64], database_utm: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Yield the squared distances float64 [q,N] of positions [Q,2] and [N,2], some queries at a time, in order."""
    at_once = max(1, _PAIRS_AT_ONCE // max(1, len(database_utm)))
    for start in range(0, len(queries_utm), at_once):
        some = queries_utm[start : start + at_once]
        yield (some[:, None, 0] - database_utm[:, 0]) ** 2 + (some[:, None, 1] - database_utm[:, 1]) ** 2


def _check(queries_utm: NDArray[np.float64], database_utm: NDArray[np.float64], radius_m: float) -> None:
    for utm in (queries_utm, database_utm):
        if utm.ndim != 2 or utm.shape[1] != 2:
            raise ValueError(f"UTM coordinates must be [N,2], not {list(utm.shape)}")
    if not radius_m >= 0:
        raise ValueError(f"the radius must be 0 m or more, not {radius_m}")


@dataclass(frozen=True)
class GroundTruth:
    """What counts as right.

    Attributes:
        heading: beside a distance: degrees between the headings at most; None: whatever they are.
        frames: instead of a distance: frames between the numbers at most.
        file: instead of a distance: a file of the right images.
        sequences: what is said of recalls that are of sequences; '' of images.
    """

    heading: float | None = None
    frames: int | None = None
    file: Path | None = None
    sequences: str = ""

    @property
    def located(self) -> bool:
        """Whether it is positions that are compared."""
        return self.frames is None and self.file is None

    @property
    def label(self) -> str:
        """What tables add to a dataset's name, since recalls by another truth do not compare; '' by distance."""
        return ", ".join(filter(None, (self._of_images, self.sequences)))

    @property
    def _of_images(self) -> str:
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
        """Return the right database rows of each query; of sequences, as their `SequenceRules.match` says.

        Args:
            threshold: one of `thresholds`.

        Raises:
            UserError: names without the number or the heading that is to be compared, a file that does not fit.
        """
        if isinstance(queries, SequenceTable) and isinstance(database, SequenceTable):
            near = self.positives(queries.frames, database.frames, threshold)
            return Neighbours(*lifted(near.indptr, near.indices, queries, database))
        if self.frames is not None:
            return _by_frames(queries, database, threshold)
        if self.file is not None:
            pairs = pairs_of_file(self.file, queries, database)
            return _rows_of(pairs[:, 0], pairs[:, 1], len(queries))
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
    digits = _DIGITS.findall(key_of(table.relative_path(row)))
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


def _rows_of(owners: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> Neighbours:
    distinct = np.unique(np.stack([owners, rows], axis=1), axis=0) if len(owners) else np.empty((0, 2), np.int64)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(distinct[:, 0], minlength=count))])
    return Neighbours(indptr.astype(np.int64), distinct[:, 1].astype(np.int64))


BY_DISTANCE = GroundTruth()
