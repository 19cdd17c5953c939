"""Which points of a query and its best candidates agree, kept for whoever draws them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError, in_short, reason_of
from vgbench.hdf5 import DAMAGED, is_sealed, seal, written_hdf5


@dataclass(frozen=True, eq=False)
class LocalMatches:
    """Inlier matches of each query with its first candidates after re-ranking.

    Attributes:
        candidates: int64 [Q,k] database rows, best first.
        ends: int64 [Q,k], where each pair's matches end in `points`; they begin where the pair before it ends.
        points: float32 [M,4]: x and y in the query, x and y in the candidate, as shares of width and height from the
            top left corner, so that they fit the images at any size.
    """

    candidates: NDArray[np.int64]
    ends: NDArray[np.int64]
    points: NDArray[np.float32]

    def of(self, query: int, rank: int) -> NDArray[np.float32]:
        """Return the matches float32 [m,4] of one query and its candidate number `rank`, from 0."""
        pair = query * self.candidates.shape[1] + rank
        ends = self.ends.ravel()
        return self.points[int(ends[pair - 1]) if pair else 0 : int(ends[pair])]

    def spread(self, rows: NDArray[np.int64], count: int) -> LocalMatches:
        """Return the same for `count` queries, of which these are the rows int64 [Q], ascending; others have none."""
        if len(rows) == count:
            return self
        kept = self.candidates.shape[1]
        candidates = np.full((count, kept), -1, np.int64)
        candidates[rows] = self.candidates
        lengths = np.zeros((count, kept), np.int64)
        lengths[rows] = np.diff(self.ends.ravel(), prepend=0).reshape(self.ends.shape)
        return LocalMatches(candidates, np.cumsum(lengths.ravel()).reshape(count, kept), self.points)

    def save(self, path: Path) -> None:
        """Write to an HDF5 file, whole or not at all."""
        with written_hdf5(path) as file:
            for name in ("candidates", "ends", "points"):
                file[name] = getattr(self, name)
            seal(file)

    @staticmethod
    def load(path: Path) -> LocalMatches:
        """Read what `save` wrote; raises UserError where there is no such file, or a damaged one."""
        try:
            with h5py.File(path, "r") as file:
                found = LocalMatches(*(np.asarray(file[name]) for name in ("candidates", "ends", "points")))
                if not (is_sealed(file) and found._fits()):
                    raise ValueError("its contents have changed")
                return found
        except DAMAGED as error:
            raise UserError(
                f"{path}: cannot be read as matches ({in_short(error)}). Expected HDF5; run eval.py --rerank "
                "local again"
            ) from error

    def _fits(self) -> bool:
        """Whether shapes and ends belong together."""
        ends = self.ends.ravel()
        return (
            self.candidates.ndim == 2
            and self.ends.shape == self.candidates.shape
            and self.points.shape == (int(ends[-1]) if len(ends) else 0, 4)
            and bool((np.diff(ends, prepend=0) >= 0).all())
        )


class PointsOnDisk:
    """Points float32 [m,4] that come pair by pair, kept in a file without a name: of all queries they would be large.

    Args:
        folder: where the file is, on a disk that has the space.

    Raises:
        UserError: it cannot be written; `append` and `all` raise it too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed with the object)
        except OSError as error:
            raise self._cannot_write(error) from error

    def append(self, points: NDArray[np.float32]) -> None:
        """Add the points of a pair."""
        try:
            self._file.write(np.ascontiguousarray(points, np.float32).data)
        except OSError as error:
            raise self._cannot_write(error) from error
        self.count += len(points)

    def all(self) -> NDArray[np.float32]:
        """Return all points [M,4], mapped from the file."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._cannot_write(error) from error
        if self.count == 0:
            return np.empty((0, 4), np.float32)
        return np.memmap(self._file, np.float32, "r", shape=(self.count, 4))

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(
            f"{self.folder}: cannot be written ({reason_of(error)}). Expected a folder with space for the matches of "
            "all queries; free space"
        )
