"""Sequences of frames as the unit of a dataset: windows of L frames, cut where a walk or a drive does not break.

Cut as the Mapillary sequences are (Warburg et al., 2020), and as SeqVLAD's authors do (Mereu et al., 2022).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vgbench.data.table import ImageTable
from vgbench.data.walk import Walk, walk_of
from vgbench.errors import UserError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix  # it takes 0.4 s, which most runs need not wait for

LOG = logging.getLogger(__name__)

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SequenceRules:
    """How the images of a folder are cut into windows.

    Attributes:
        length: L, frames of a window.
        order: as `--seq_order`.
        stride: frames from one window of a sequence to the next.
        jump_metres: a longer way between two frames ends a sequence; None: none does.
        jump_seconds: so does a longer time, where images are ordered by their timestamps; None: none does.
        match: which frames of two windows are compared to say whether they show one place: "any" of both, or the
            "centre" of each.
    """

    length: int
    order: str = "auto"
    stride: int = 1
    jump_metres: float | None = 50.0
    jump_seconds: float | None = None
    match: str = "any"

    @property
    def label(self) -> str:
        """What tables say of recalls of sequences, since they do not compare with those of images."""
        frames = "any frame" if self.match == "any" else "central frame"
        return f"sequences of {self.length}, {frames}"


class SequenceTable(ImageTable):
    """Windows of frames; where one image is asked for, such as by a position or a picture, it is the central frame.

    Attributes:
        frames: the images that the windows are made of.
        members: int64 [N,L], the rows of `frames` of each window, in the order in which they were taken.
        rules: how they were cut.
    """

    def __init__(self, frames: ImageTable, members: Rows, rules: SequenceRules) -> None:
        self.frames, self.members, self.rules = frames, members, rules
        centre = frames.select(self.centres)
        self.__dict__.update({**vars(centre), "_fingerprint": None})

    def __repr__(self) -> str:
        return f"SequenceTable({str(self.root)!r}, {len(self)} windows of {self.rules.length} frames)"

    @property
    def centres(self) -> Rows:
        """The row of each window's central frame in `frames`, int64 [N]; of an even number the later of the two."""
        return self.members[:, self.rules.length // 2]

    def select(self, rows: Rows) -> SequenceTable:
        """Return a table of some windows, as `ImageTable.select`."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64, copy=False)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows must lie in 0..{len(self) - 1}")
        return SequenceTable(self.frames, self.members[rows], self.rules)

    def used(self) -> ImageTable:
        """Return the frames that are in a window."""
        return self.frames.select(np.unique(self.members))

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of the frames' fingerprint and of which of them each window has, computed once."""
        if self._fingerprint is None:
            digest = hashlib.sha256(self.frames.fingerprint().encode())
            digest.update(np.ascontiguousarray(self.members).data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def in_sequences(table: ImageTable, rules: SequenceRules) -> SequenceTable:
    """Cut a folder of images into windows, in the order of the sequences and of the frames.

    Raises:
        UserError: the order cannot be known, or no sequence is long enough.
    """
    walk = walk_of(table, rules.order)
    first, last = runs(walk, breaks(walk, table, rules))
    starts = [np.arange(begin, end - rules.length + 1, rules.stride) for begin, end in zip(first, last, strict=True)]
    windows = np.concatenate(starts) if starts else np.empty(0, np.int64)
    if not len(windows):
        longest = int((last - first).max(initial=0))
        raise UserError(
            f"--seq_length {rules.length}: {table.root} has no sequence that long (by {walk.by}, the longest has "
            f"{longest} frames). Expected a smaller one, or another --seq_order or --seq_jump_metres"
        )
    members = walk.rows[windows[:, None] + np.arange(rules.length)]
    LOG.info(
        "%s: %d windows of %d frames, %d sequences by %s; %d of %d images are in none",
        table.root, len(windows), rules.length, len(first), walk.by, len(table) - len(np.unique(members)), len(table),
    )  # fmt: skip
    return SequenceTable(table, members, rules)


def breaks(walk: Walk, table: ImageTable, rules: SequenceRules) -> NDArray[np.bool_]:
    """Return bool [N], whether a new sequence begins at each place of a walk."""
    broken = walk.starts == np.arange(len(walk.rows))
    step = np.diff(walk.numbers, prepend=-np.inf)
    if walk.by == "file":
        broken |= step != 1  # frames are numbered through, and a missing one is a jump (MSLS)
    if rules.jump_seconds is not None and walk.by == "timestamp":
        broken |= step > rules.jump_seconds
    if rules.jump_metres is not None:
        utm = table.utm[walk.rows]
        # Unknown metres are NaN, with which no comparison holds: they break nothing.
        broken[1:] |= np.linalg.norm(np.diff(utm, axis=0), axis=1) > rules.jump_metres
    return np.asarray(broken, np.bool_)


def runs(walk: Walk, broken: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Return the first places of the sequences and the places after their last, int64 [S] each."""
    first = np.flatnonzero(broken).astype(np.int64)
    return first, np.append(first[1:], len(walk.rows)).astype(np.int64)


def readable(table: SequenceTable, good: Sequence[str]) -> SequenceTable:
    """Return the windows all of whose frames are among the relative paths `good`."""
    known = set(good)
    there = np.fromiter((path in known for path in table.frames.relative_paths()), np.bool_, len(table.frames))
    return table.select(np.flatnonzero(there[table.members].all(axis=1)))


def lifted(indptr: Rows, indices: Rows, queries: SequenceTable, database: SequenceTable) -> tuple[Rows, Rows]:
    """From frames to windows: which windows of the database have a frame that is right for one of a query's.

    Args:
        indptr, indices: for each row of `queries.frames` the right rows of `database.frames`, in CSR form.

    Returns:
        the same of the windows, as `SequenceRules.match` says.
    """
    from scipy.sparse import csr_matrix

    shape = (len(queries.frames), len(database.frames))
    near = csr_matrix((np.ones(len(indices), np.int32), indices, indptr), shape=shape)
    found = (_frames_of(queries) @ near @ _frames_of(database).T).tocsr()
    found.sort_indices()
    return found.indptr.astype(np.int64), found.indices.astype(np.int64)


def _frames_of(table: SequenceTable) -> csr_matrix:
    """Return int32 [N,F]: 1 where a frame is one of those of a window that are compared."""
    from scipy.sparse import csr_matrix

    compared = table.members if table.rules.match == "any" else table.centres[:, None]
    window = np.repeat(np.arange(len(table)), compared.shape[1])
    ones = np.ones(compared.size, np.int32)
    return csr_matrix((ones, (window, compared.ravel())), shape=(len(table), len(table.frames)))
