"""ImageTable: what is known about the images of one folder, in a few flat arrays."""

# Millions of paths stay bytes here: a Path object each would cost more than reading them.
# ruff: noqa: PTH116

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgbench.data.many_names import Columns

TIMESTAMP_BYTES = 15  # YYYYMMDD_hhmmss
_CHUNK = 1 << 10  # rows gathered at a time, so that an index array never outweighs the table itself
_WORD = 8  # bytes of a path compared at a time
_STAT_CHUNK = 4096
_STAT_THREADS = 8  # `stat` waits for the disk, most of all on network file systems


class ImageTable:
    """Relative paths, UTM, heading, timestamp and note of N images, at about 50 bytes per image beside its path.

    Attributes:
        root: the folder that the relative paths start from.
        utm: float64 [N,2], east and north in metres.
        heading: float32 [N], degrees, NaN where unknown.
        note_codes: int32 [N], the index of each image's note in `note_vocabulary`.
        note_vocabulary: the distinct notes ('' where unknown).
        zone: int8 [N], the UTM zone that the metres are in, negative in the southern hemisphere; 0 where unknown.
        upright: whether the images are turned as their EXIF says, which photographs are and the images of a dataset in
            the folder protocol are not: there coordinates and published numbers belong to the stored pixels.
    """

    def __init__(
        self,
        root: Path,
        paths: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        utm: NDArray[np.float64],
        heading: NDArray[np.float32],
        timestamps: NDArray[np.bytes_],
        note_codes: NDArray[np.int32],
        note_vocabulary: tuple[str, ...],
        zone: NDArray[np.int8] | None = None,
        upright: bool = False,
    ) -> None:
        """Keep the arrays; use `TableBuilder` or `vgbench.data.read_folder` to make them.

        Args:
            root: the folder that the relative paths start from.
            paths: uint8 [sum of lengths], all relative paths in file-system encoding, one after the other.
            offsets: int64 [N+1], where each path starts in `paths`.
            utm: float64 [N,2], metres.
            heading: float32 [N], degrees, NaN where unknown.
            timestamps: S15 [N].
            note_codes: int32 [N] into `note_vocabulary`.
            note_vocabulary: the distinct notes.
            zone: int8 [N]; None where none is known.
            upright: whether images are turned as their EXIF says.
        """
        self.root = Path(root)
        self.zone = np.zeros(len(utm), np.int8) if zone is None else zone
        self.upright = upright
        self.utm = utm
        self.heading = heading
        self.note_codes = note_codes
        self.note_vocabulary = note_vocabulary
        self._paths = paths
        self._offsets = offsets
        self._timestamps = timestamps
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.utm)

    def __repr__(self) -> str:
        return f"ImageTable({str(self.root)!r}, {len(self)} images)"

    def relative_path(self, row: int) -> str:
        """Return the path of one image below `root`, with forward slashes."""
        row = range(len(self))[row]
        return os.fsdecode(self._paths[self._offsets[row] : self._offsets[row + 1]].tobytes())

    def relative_paths(self) -> Iterator[str]:
        """Yield the relative path of every image, in order."""
        return (self.relative_path(row) for row in range(len(self)))

    def path(self, row: int) -> Path:
        """Return the path of one image."""
        return self.root / self.relative_path(row)

    def timestamp(self, row: int) -> str:
        """Return YYYYMMDD_hhmmss or a part of it, '' where unknown."""
        return os.fsdecode(bytes(self._timestamps[row]))

    def note(self, row: int) -> str:
        """Return the free-text field of one image's name, '' where there is none."""
        return self.note_vocabulary[int(self.note_codes[row])]

    def place_id(self, row: int) -> str:
        """Return the place of one image in place-style training sets, which keep it in the note field."""
        return self.note(row)

    @property
    def nbytes(self) -> int:
        """The memory that the table takes, in bytes."""
        arrays = (self.utm, self.heading, self.note_codes, self._paths, self._offsets, self._timestamps, self.zone)
        return sum(a.nbytes for a in arrays) + sum(len(note) + 57 for note in self.note_vocabulary)

    def select(self, rows: NDArray[np.int64]) -> ImageTable:
        """Return a table of some rows (int64 [M], any order, repetitions allowed); raises IndexError."""
        rows = np.asarray(rows)
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        # An empty Python list arrives as float64, which does not index.
        rows = rows.astype(np.int64, copy=False)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows must lie in 0..{len(self) - 1}")
        paths, offsets = self._gather_paths(rows)
        return ImageTable(
            self.root,
            paths,
            offsets,
            self.utm[rows],
            self.heading[rows],
            self._timestamps[rows],
            self.note_codes[rows],
            self.note_vocabulary,
            self.zone[rows],
            self.upright,
        )

    def order(self) -> NDArray[np.int64]:
        """Return the rows by relative path (as bytes), the first of each path: int64 [n].

        The paths are compared eight bytes at a time in arrays: an object for each would weigh more than the table.
        """
        lengths = np.diff(self._offsets)
        order, group = np.arange(len(self)), np.zeros(len(self), np.int64)
        open_ones = np.arange(len(self))  # places in `order` that are not settled yet
        for start in range(0, int(lengths.max(initial=0)), _WORD):
            rows = order[open_ones]
            words = self._words(rows, lengths[rows], start)
            by = np.lexsort((words, group[open_ones]))  # stable: of equal paths the first row stays first
            order[open_ones] = rows[by]
            words, groups = words[by], group[open_ones]
            new = np.ones(len(by), bool)
            new[1:] = (words[1:] != words[:-1]) | (groups[1:] != groups[:-1])
            # A group is called by its first place, so that later words keep its rank among the others.
            group[open_ones] = open_ones[np.maximum.accumulate(np.where(new, np.arange(len(by)), 0))]
            open_ones = open_ones[~(new & np.append(new[1:], True))]
            if not len(open_ones):
                break
        return np.asarray(order[group == np.arange(len(order))], np.int64)

    def _words(self, rows: NDArray[np.int64], lengths: NDArray[np.int64], start: int) -> NDArray[np.uint64]:
        """Return eight bytes of each path from `start`, big-endian and filled up with zeros: uint64 [M]."""
        words = np.zeros(len(rows), np.uint64)
        for shift in range(_WORD):
            there = np.flatnonzero(lengths > start + shift)
            letters = self._paths[self._offsets[rows[there]] + start + shift].astype(np.uint64)
            words[there] |= letters << np.uint64(8 * (_WORD - 1 - shift))
        return words

    def at(self, utm: NDArray[np.float64], zone: NDArray[np.int8]) -> ImageTable:
        """Return the same images at other metres, float64 [N,2], of the zones int8 [N]."""
        return ImageTable(
            self.root, self._paths, self._offsets, utm, self.heading, self._timestamps, self.note_codes,
            self.note_vocabulary, zone, self.upright,
        )  # fmt: skip

    def turned(self, heading: NDArray[np.float32]) -> ImageTable:
        """Return the same images with other headings, float32 [N], degrees."""
        return ImageTable(
            self.root, self._paths, self._offsets, self.utm, heading, self._timestamps, self.note_codes,
            self.note_vocabulary, self.zone, self.upright,
        )  # fmt: skip

    def _gather_paths(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        lengths = self._offsets[rows + 1] - self._offsets[rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        paths = np.empty(offsets[-1], np.uint8)
        for start in range(0, len(rows), _CHUNK):
            stop = min(start + _CHUNK, len(rows))
            begin, end = offsets[start], offsets[stop]
            shift = self._offsets[rows[start:stop]] - offsets[start:stop]
            paths[begin:end] = self._paths[np.repeat(shift, lengths[start:stop]) + np.arange(begin, end)]
        return paths, offsets

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of the relative paths, sizes and modification times, computed once.

        A file that is not there counts as size -1, so that a table with a missing image has a fingerprint too.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256()
            starts = range(0, len(self), _STAT_CHUNK)
            with ThreadPoolExecutor(_STAT_THREADS) as pool:
                for part in pool.map(self._digest_of_chunk, starts):
                    digest.update(part)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _digest_of_chunk(self, start: int) -> bytes:
        root = os.fsencode(self.root) + b"/"
        stop = min(start + _STAT_CHUNK, len(self))
        offsets = self._offsets[start : stop + 1].tolist()
        buffer = self._paths[offsets[0] : offsets[-1]].tobytes()
        digest = hashlib.sha256()
        for begin, end in pairwise(offsets):
            relative = buffer[begin - offsets[0] : end - offsets[0]]
            try:
                status = os.stat(root + relative)
                size, modified = status.st_size, status.st_mtime_ns
            except OSError:
                size, modified = -1, 0
            digest.update(b"%b\0%d\0%d\n" % (relative, size, modified))
        return digest.digest()


class TableBuilder:
    """Grows an ImageTable one image at a time, without an object per image."""

    def __init__(self) -> None:
        self._paths = bytearray()
        self._offsets = array("q", [0])
        self._utm = array("d")
        self._heading = array("f")
        self._timestamps = bytearray()
        self._note_codes = array("i")
        self._vocabulary: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def add(
        self,
        relative_path: str,
        east: float,
        north: float,
        heading: float = float("nan"),
        timestamp: str = "",
        note: str = "",
    ) -> None:
        """Append one image: metres, degrees, and a timestamp of which 15 characters are kept."""
        self._paths += os.fsencode(relative_path)
        self._offsets.append(len(self._paths))
        self._utm.append(east)
        self._utm.append(north)
        self._heading.append(heading)
        self._timestamps += os.fsencode(timestamp)[:TIMESTAMP_BYTES].ljust(TIMESTAMP_BYTES, b"\0")
        self._note_codes.append(self._vocabulary.setdefault(note, len(self._vocabulary)))

    def extend(self, columns: Columns) -> None:
        """Append many images, as `add` each."""
        ends = self._offsets[-1] + np.cumsum(list(map(len, columns.paths)))
        self._offsets.frombytes(ends.astype(np.int64).tobytes())
        self._paths += b"".join(columns.paths)
        self._utm.frombytes(columns.utm.tobytes())
        self._heading.frombytes(columns.heading.astype(np.float32).tobytes())
        self._timestamps += np.array(columns.timestamps, f"S{TIMESTAMP_BYTES}").tobytes()
        codes = {
            note: self._vocabulary.setdefault(os.fsdecode(note), len(self._vocabulary))
            for note in dict.fromkeys(columns.notes)
        }
        if len(codes) == 1:
            [code] = codes.values()
            self._note_codes.frombytes(np.full(len(columns), code, np.int32).tobytes())
        else:
            self._note_codes.extend(map(codes.__getitem__, columns.notes))

    def build(self, root: Path, zone: NDArray[np.int8] | None = None, *, upright: bool = False) -> ImageTable:
        """Return the table, which takes over the builder's memory; the builder is not usable afterwards.

        Args:
            zone: int8 [N], UTM zones, negative in the southern hemisphere; None where none is known.
            upright: whether images are turned as their EXIF says.
        """
        return ImageTable(
            root,
            np.frombuffer(self._paths, np.uint8) if self._paths else np.empty(0, np.uint8),
            np.frombuffer(self._offsets, np.int64),
            np.frombuffer(self._utm, np.float64).reshape(-1, 2) if self._utm else np.empty((0, 2)),
            np.frombuffer(self._heading, np.float32) if self._heading else np.empty(0, np.float32),
            np.frombuffer(self._timestamps, f"S{TIMESTAMP_BYTES}")
            if self._timestamps
            else np.empty(0, f"S{TIMESTAMP_BYTES}"),
            np.frombuffer(self._note_codes, np.int32) if self._note_codes else np.empty(0, np.int32),
            tuple(self._vocabulary),
            zone,
            upright,
        )
