"""The nearest of some descriptors, with the files and positions that they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vgbench.api.network import Described, LoadedNetwork
from vgbench.errors import UserError
from vgbench.models.hashing import hashing_of
from vgbench.retrieval import search
from vgbench.retrieval.extraction.store import InMemory
from vgbench.retrieval.searching.exact import check_searchable
from vgbench.retrieval.searching.refine import refine
from vgbench.runtime import Runtime

if TYPE_CHECKING:
    from vgbench.retrieval.searching.codes import BinaryCodes


@dataclass(frozen=True)
class Match:
    """One database image that a query resembles.

    Attributes:
        row: of the database.
        path: its file; None where the index knows none.
        distance: Euclidean, between the descriptors.
        position: east and north in metres (or whatever the index was given); None where it is not known.
    """

    row: int
    path: Path | None
    distance: float
    position: tuple[float, float] | None


@dataclass(frozen=True)
class Matches:
    """What `Index.search` found: arrays, and `matches[q]` as a list of `Match`, best first.

    Attributes:
        rows: int64 [Q,K], rows of the database.
        distances: float32 [Q,K], Euclidean.
        positions: float64 [Q,K,2]; NaN where they are not known.
        paths: of the database; None where the index knows none.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]
    positions: NDArray[np.float64]
    paths: tuple[Path, ...] | None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[list[Match]]:
        return (self[query] for query in range(len(self)))

    def __getitem__(self, query: int) -> list[Match]:
        return [
            Match(
                row=int(row),
                path=None if self.paths is None else self.paths[row],
                distance=float(distance),
                position=None if np.isnan(position).any() else (float(position[0]), float(position[1])),
            )
            for row, distance, position in zip(
                self.rows[query], self.distances[query], self.positions[query], strict=True
            )
        ]


class Index:
    """Descriptors in which the nearest are looked for, exactly, or by codes that a network has learned.

    Args:
        database: of `network.describe`, or an array float [N,D].
        positions: float [N,2] of each image, in place of what the file names say: metres, or degrees, as they are to
            come back.
        paths: the file of each image, where `database` is an array.
        codes: a network trained with `--hash_bits`: its codes of the database are searched by their Hamming distances,
            and descriptors order the candidates.

    Raises:
        UserError: there is nothing to look in, the counts differ, or the network has no codes or others.
    """

    def __init__(
        self,
        database: Described | ArrayLike,
        positions: ArrayLike | None = None,
        paths: Sequence[str | Path] | None = None,
        *,
        codes: LoadedNetwork | None = None,
    ) -> None:
        self._database = _values(database)
        known = database if isinstance(database, Described) else None
        self._coder = None if codes is None else _coder(codes, self._database, known.network if known else "")
        self._codes = None if self._coder is None else self._coder.encode(self._database)
        count = len(self._database)
        self._network = known.network if known else ""
        if positions is not None:
            self.positions = np.asarray(positions, dtype=np.float64)
        else:
            self.positions = np.full((count, 2), np.nan) if known is None else known.positions
        self.paths = tuple(Path(path) for path in paths) if paths is not None else (known.paths if known else None)
        if self.positions.shape != (count, 2):
            raise UserError(f"Index: positions {list(self.positions.shape)} for {count} descriptors. Expected [N,2]")
        if self.paths is not None and len(self.paths) != count:
            raise UserError(f"Index: {len(self.paths)} paths for {count} descriptors. Expected one of each")

    def __len__(self) -> int:
        return len(self._database)

    @property
    def bytes_per_image(self) -> int:
        """What is searched of an image: its code, else its float32 descriptor."""
        row = self._database if self._codes is None else self._codes
        return int(row.shape[1] * row.itemsize)

    def search(self, queries: Described | ArrayLike, k: int = 5, *, candidates: int = 100) -> Matches:
        """Return the min(k, N) nearest of the database for each query, best first, equal distances by lower row.

        Args:
            queries: of `network.describe`, or an array float [Q,D] (or [D] for one).
            k: matches for each query.
            candidates: where codes are searched, how many of the nearest codes are ordered by descriptors, k at least.

        Raises:
            UserError: descriptors of another network or number of dimensions, values that are not finite, or k below 1.
        """
        asked = queries.network if isinstance(queries, Described) else ""
        if asked and self._network and asked != self._network:
            raise UserError(
                f"Index: the queries are described by another network (weights {asked[:12]}) than the database "
                f"({self._network[:12]}). Expected one network for both; describe either again"
            )
        values = _values(queries)
        both = _in_memory(self._database, "database"), _in_memory(values, "queries")
        if self._coder is None or self._codes is None:
            found = search(*both, k)
        else:
            check_searchable(*both, k)
            _check_finite(values, "set of queries")
            wanted = min(max(candidates, k), len(self))
            _, rows = self._coder.nearest(self._codes, values, wanted)
            found = refine(*both, rows, min(k, len(self)), Runtime())
        return Matches(found.indices, found.distances, self.positions[found.indices], self.paths)


def _coder(loaded: LoadedNetwork, database: NDArray[np.float32], described_by: str) -> BinaryCodes:
    """Return what makes a network's codes of its descriptors; raises UserError where it has none of these."""
    branch = hashing_of(loaded.network)
    if branch is None:
        raise UserError(
            f"Index: {loaded.network.name} has learned no codes. Expected codes= a network trained with --hash_bits; "
            "leave it out"
        )
    if loaded.descriptors_dim != database.shape[1] or described_by not in ("", loaded.weights):
        raise UserError(
            f"Index: the database was described by another network than {loaded.network.name}, whose codes are asked "
            "for. Expected one network for both; describe the database again"
        )
    _check_finite(database, "database")
    # With faiss, which plain searches do without.
    from vgbench.retrieval.searching.learned import LearnedCodes

    return LearnedCodes(database.shape[1], branch.thresholds())


def _check_finite(values: NDArray[np.float32], what: str) -> None:
    if not np.isfinite(values).all():
        raise UserError(f"Index: the {what} has NaN or infinity. Expected finite descriptors; describe them again")


def _values(descriptors: Described | ArrayLike) -> NDArray[np.float32]:
    """Return descriptors as float32 [N,D]; raises UserError where they are none."""
    given = descriptors.descriptors if isinstance(descriptors, Described) else descriptors
    values = np.atleast_2d(np.asarray(given, dtype=np.float32))
    if values.ndim != 2 or values.size == 0:
        raise UserError(f"Index: an array of {list(values.shape)}. Expected descriptors [N,D], one or more")
    return np.ascontiguousarray(values)


def _in_memory(values: NDArray[np.float32], what: str) -> InMemory:
    return InMemory(torch.from_numpy(values), Path(what))
