"""Local features on disk: HDF5 files of some dozens of images each, every one written whole or not at all.

A file holds its images one after the other: `rows` int64 [n], `ends` int64 [n] (where each image's keypoints end),
`sizes` int32 [n,2], `keypoints` uint16 [M,2] (65535ths of the image, finer than float16) and `descriptors` float16
[M,D] or uint8.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError
from vgbench.hdf5 import DAMAGED, is_sealed, seal, warn_damaged, written_hdf5
from vgbench.retrieval.rerank.local.features import LocalFeatures

GRID = 65535.0


class FeatureStore:
    """Reads and appends the features of one table of images.

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
        self._where: dict[int, tuple[h5py.File, int, int]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}). Expected a folder for local features"
            ) from error
        self._files: list[h5py.File] = []
        for path in sorted(folder.glob("*.h5")):
            self._open(path)

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the distinct ones of `rows` [n] that are not here yet, int64 [m], ascending."""
        return np.array([row for row in np.unique(rows).tolist() if row not in self._where], np.int64)

    def append(self, rows: Sequence[int], features: Sequence[LocalFeatures]) -> None:
        """Write the features of some rows into a file of their own."""
        path = self.folder / f"{min(rows):09d}-{os.getpid()}.h5"
        with written_hdf5(path) as file:
            file["rows"] = np.array(rows, np.int64)
            file["ends"] = np.cumsum([len(one) for one in features], dtype=np.int64)
            file["sizes"] = np.array([one.size for one in features], np.int32).reshape(-1, 2)
            dtype = np.uint8 if self._binary else np.float16
            file["keypoints"] = np.concatenate([_to_grid(one) for one in features]).reshape(-1, 2)
            file["descriptors"] = np.concatenate([one.descriptors.astype(dtype) for one in features])
            seal(file)
        self._open(path)

    def read(self, row: int) -> LocalFeatures:
        """Return the features of one row; KeyError if it is not here."""
        file, start, stop = self._where[row]
        size = self._sizes[row]
        keypoints = file["keypoints"][start:stop].astype(np.float32) * (np.array(size, np.float32) / GRID)
        descriptors = file["descriptors"][start:stop]
        return LocalFeatures(
            np.asarray(keypoints, np.float32),
            descriptors if self._binary else descriptors.astype(np.float32),
            size,
        )

    @property
    def bytes_per_image(self) -> float:
        """What an image takes on disk, on average."""
        total = sum(Path(file.filename).stat().st_size for file in self._files)
        return total / max(len(self._where), 1)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _open(self, path: Path) -> None:
        file = None
        try:
            file = h5py.File(path, "r")
            rows, ends, sizes = file["rows"][:], file["ends"][:], file["sizes"][:]
            many = int(ends[-1]) if len(ends) else 0
            shapes = rows.shape == ends.shape == sizes.shape[:1] and file["keypoints"].shape == (many, 2)
            if not shapes or file["descriptors"].shape != (many, self._dim) or not is_sealed(file):
                raise ValueError("its contents have changed")
        except DAMAGED as error:
            warn_damaged(path, error)
            if file is not None:
                file.close()
            with contextlib.suppress(OSError):
                path.unlink()  # its images are missing now, and looked at again
            return
        self._files.append(file)
        starts = np.concatenate([[0], ends[:-1]])
        for row, start, stop, size in zip(rows.tolist(), starts.tolist(), ends.tolist(), sizes.tolist(), strict=True):
            self._where[row] = (file, start, stop)
            self._sizes[row] = (size[0], size[1])


def _to_grid(features: LocalFeatures) -> NDArray[np.uint16]:
    """Return keypoints in 65535ths of the image's width and height, uint16 [n,2]."""
    cells = features.keypoints / np.array(features.size, np.float32) * GRID
    return np.clip(np.rint(cells), 0, GRID).astype(np.uint16)
