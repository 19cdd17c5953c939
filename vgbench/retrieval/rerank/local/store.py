"""Local features on disk: HDF5 files of some dozens of images each, every one written whole or not at all.

A file holds its images one after the other: `rows` int64 [n], `ends` int64 [n] (where each image's keypoints end),
`sizes` int32 [n,2], `keypoints` uint16 [M,2] (65535ths of the image, finer than float16) and `descriptors` float16
[M,D] or uint8.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError, reason_of
from vgbench.hdf5 import DAMAGED, is_sealed, seal, warn_damaged, written_hdf5
from vgbench.retrieval.rerank.local.features import LocalFeatures

GRID = 65535.0


@dataclass(frozen=True)
class _Where:
    """Where the features of some images lie: 36 bytes each.

    Attributes:
        rows: int64 [n].
        file: int32 [n], the file's number.
        spans: int64 [n,2], the first keypoint and the one after the last.
        sizes: int32 [n,2], width and height in pixels.
    """

    rows: NDArray[np.int64]
    file: NDArray[np.int32]
    spans: NDArray[np.int64]
    sizes: NDArray[np.int32]

    @staticmethod
    def joined(parts: Sequence[_Where]) -> _Where:
        """Join some, by ascending rows; of those that are there twice, the last one counts."""
        rows = np.concatenate([part.rows for part in parts])
        _, last = np.unique(rows[::-1], return_index=True)
        kept = len(rows) - 1 - last
        columns = [np.concatenate([getattr(part, name) for part in parts])[kept] for name in ("file", "spans", "sizes")]
        return _Where(rows[kept], *columns)


@dataclass(frozen=True)
class _File:
    """One file, and where in it the arrays begin, in bytes; nothing of it stays open."""

    path: Path
    keypoints: int
    descriptors: int


class FeatureStore:
    """Reads and appends the features of one table of images.

    It holds 36 bytes of an image, and no open file, however many there are.

    Args:
        folder: of the files; its name holds the fingerprint of what the features were made from.
        dim: numbers a descriptor has.
        binary: whether they are bytes of bits.

    Raises:
        UserError: the folder cannot be written, or holds something else.
    """

    def __init__(self, folder: Path, dim: int, binary: bool) -> None:
        self.folder = folder
        self._dim, self._binary = dim, binary
        self._dtype: type[np.generic] = np.uint8 if binary else np.float16
        self._files: list[_File] = []
        self._parts = [
            _Where(*(np.empty(shape, kind) for shape, kind in ((0, "i8"), (0, "i4"), ((0, 2), "i8"), ((0, 2), "i4"))))
        ]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}). Expected a folder for local features"
            ) from error
        for path in sorted(folder.glob("*.h5")):
            self._add(path)

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the distinct ones of `rows` [n] that are not here yet, int64 [m], ascending."""
        return np.setdiff1d(rows, self._where().rows)

    def append(self, rows: Sequence[int], features: Sequence[LocalFeatures]) -> None:
        """Write the features of some rows into a file of their own."""
        path = self.folder / f"{min(rows):09d}-{os.getpid()}.h5"
        with written_hdf5(path) as file:
            file["rows"] = np.array(rows, np.int64)
            file["ends"] = np.cumsum([len(one) for one in features], dtype=np.int64)
            file["sizes"] = np.array([one.size for one in features], np.int32).reshape(-1, 2)
            file["keypoints"] = np.concatenate([_to_grid(one) for one in features]).reshape(-1, 2)
            file["descriptors"] = np.concatenate([one.descriptors.astype(self._dtype) for one in features])
            seal(file)
        self._add(path)

    def read(self, row: int) -> LocalFeatures:
        """Return the features of one row.

        Raises:
            KeyError: it is not here.
            UserError: its file has been taken away.
        """
        where = self._where()
        place = int(np.searchsorted(where.rows, row))
        if place == len(where.rows) or where.rows[place] != row:
            raise KeyError(row)
        file, (start, stop) = self._files[where.file[place]], where.spans[place].tolist()
        width, height = where.sizes[place].tolist()
        try:
            with file.path.open("rb", buffering=0) as content:
                cells = _read(content, file.keypoints, start, np.empty((stop - start, 2), np.uint16))
                descriptors = _read(content, file.descriptors, start, np.empty((stop - start, self._dim), self._dtype))
        except OSError as error:
            raise UserError(
                f"{file.path}: cannot be read ({reason_of(error)}). Expected the local features that were there; run "
                "again to find them anew"
            ) from error
        keypoints = cells.astype(np.float32) * (np.array((width, height), np.float32) / GRID)
        return LocalFeatures(
            np.asarray(keypoints, np.float32),
            descriptors if self._binary else descriptors.astype(np.float32),
            (width, height),
        )

    @property
    def bytes_per_image(self) -> float:
        """What an image takes on disk, on average."""
        total = sum(file.path.stat().st_size for file in self._files)
        return total / max(len(self._where().rows), 1)

    def close(self) -> None:
        """Forget what is known of the files."""
        self._files, self._parts = [], self._parts[:1]

    def _where(self) -> _Where:
        if len(self._parts) > 1:
            self._parts = [_Where.joined(self._parts)]
        return self._parts[0]

    def _add(self, path: Path) -> None:
        """Take up a file; one that is damaged is deleted."""
        try:
            with h5py.File(path, "r") as file:
                rows, ends, sizes = file["rows"][:], file["ends"][:], file["sizes"][:]
                many = int(ends[-1]) if len(ends) else 0
                shapes = rows.shape == ends.shape == sizes.shape[:1] and file["keypoints"].shape == (many, 2)
                fits = shapes and file["descriptors"].shape == (many, self._dim) and bool((np.diff(ends) >= 0).all())
                kinds = file["keypoints"].dtype == np.uint16 and file["descriptors"].dtype == self._dtype
                if not (fits and kinds and is_sealed(file)):
                    raise ValueError("its contents have changed")
                begins = [file[name].id.get_offset() for name in ("keypoints", "descriptors")]
                if many and None in begins:
                    raise ValueError("its arrays are not in one piece")
        except DAMAGED as error:
            warn_damaged(path, error)
            with contextlib.suppress(OSError):
                path.unlink()  # its images are missing now, and looked at again
            return
        spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).astype(np.int64)
        number = np.full(len(rows), len(self._files), np.int32)
        self._parts.append(_Where(rows.astype(np.int64), number, spans, sizes.astype(np.int32)))
        self._files.append(_File(path, begins[0] or 0, begins[1] or 0))


def _read(content: FileIO, begin: int, first: int, out: NDArray[Any]) -> NDArray[Any]:
    """Fill `out` [n,d] with the rows from `first` on of an array that begins at a byte of a file; raises OSError."""
    content.seek(begin + first * out.itemsize * out.shape[1])
    left = out.reshape(-1).view(np.uint8).data
    while left:
        done = content.readinto(left)
        if not done:
            raise OSError("it is cut short")
        left = left[done:]
    return out


def _to_grid(features: LocalFeatures) -> NDArray[np.uint16]:
    """Return keypoints in 65535ths of the image's width and height, uint16 [n,2]."""
    cells = features.keypoints / np.array(features.size, np.float32) * GRID
    return np.clip(np.rint(cells), 0, GRID).astype(np.uint16)
