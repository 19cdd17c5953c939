"""What search and every re-ranker hand on: the best database rows of each query."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError
from vgbench.hdf5 import written_hdf5

RANKS = "first_positive_ranks"


@dataclass(frozen=True)
class Predictions:
    """The K best database rows of each query, best first.

    Attributes:
        indices: int64 [Q,K] rows of the database table.
        distances: float32 [Q,K] Euclidean distances between descriptors.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]

    def save(self, path: Path, fingerprint: str = "", ranks: NDArray[np.int32] | None = None) -> None:
        """Write to an HDF5 file (datasets `indices`, `distances`; attribute `fingerprint`), whole or not at all.

        Args:
            ranks: int32 [Q], where each query's first right prediction is, kept beside them for comparisons of runs.
        """
        with written_hdf5(path) as file:
            file["indices"] = self.indices
            file["distances"] = self.distances
            if ranks is not None:
                file[RANKS] = ranks
            file.attrs["fingerprint"] = fingerprint

    @staticmethod
    def load(path: Path) -> Predictions:
        """Read what `save` wrote.

        Raises:
            UserError: there is no such file or it holds no predictions.
        """
        remedy = "run eval.py to write it again"
        if not Path(path).is_file():
            raise UserError(f"{path}: no such predictions file. Expected one written by eval.py or train.py; {remedy}")
        try:
            with h5py.File(path, "r") as file:
                indices, distances = np.asarray(file["indices"]), np.asarray(file["distances"])
        except (OSError, KeyError) as error:
            raise UserError(f"{path}: cannot be read as predictions ({error}). Expected HDF5; {remedy}") from error
        if indices.ndim != 2 or indices.shape != distances.shape:
            raise UserError(f"{path}: indices {indices.shape} and distances {distances.shape} differ; {remedy}")
        return Predictions(indices.astype(np.int64, copy=False), distances.astype(np.float32, copy=False))

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, queries: NDArray[np.int64]) -> Predictions:
        """Return the predictions of some queries, int64 [n]."""
        return Predictions(self.indices[queries], self.distances[queries])

    def with_rows(self, queries: NDArray[np.int64], others: Predictions) -> Predictions:
        """Return the same with other predictions for some queries, int64 [n]."""
        indices, distances = self.indices.copy(), self.distances.copy()
        indices[queries], distances[queries] = others.indices, others.distances
        return Predictions(indices, distances)

    def first(self, count: int) -> Predictions:
        """Return the best `count` of each query, or all where there are fewer."""
        if count >= self.indices.shape[1]:
            return self
        return Predictions(self.indices[:, :count].copy(), self.distances[:, :count].copy())


def read_ranks(path: Path) -> NDArray[np.int32] | None:
    """Return int32 [Q], where each query's first right prediction is (-1: nowhere); None where it was not kept."""
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[RANKS], np.int32) if RANKS in file else None
    except OSError:
        return None
