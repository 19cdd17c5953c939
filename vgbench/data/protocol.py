"""The folder protocol: coordinates in file names, folders of images -> ImageTable, dataset folders -> Split."""

# Millions of paths stay bytes here: a Path object each would cost more than reading them.
# ruff: noqa: PTH110, PTH116, PTH118, PTH123

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vgbench.data.layout import dataset_of, instead, remedy, split_folder
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png")
INDEX_SUFFIX = "_images_paths.txt"
_NAMED = 3  # how many offending names a message shows
_NOTE = 14  # the note's position among the fields, counting what precedes the first @ as field 0


@dataclass(frozen=True)
class ImageName:
    """The fields of a file name; None or '' where unknown.

    UTM and height are in metres, latitude, longitude, heading, pitch and roll in degrees, the timestamp is
    YYYYMMDD_hhmmss or a part of it. In GSV-XS the note is the place.
    """

    utm_east: float
    utm_north: float
    zone_number: int | None = None
    zone_letter: str = ""
    latitude: float | None = None
    longitude: float | None = None
    pano_id: str = ""
    tile_num: str = ""
    heading: float | None = None
    pitch: float | None = None
    roll: float | None = None
    height: float | None = None
    timestamp: str = ""
    note: str = ""
    extension: str = ".jpg"


@dataclass(frozen=True)
class Split:
    """The database and the queries of one split ("train", "val", "test") of the dataset at `root`."""

    name: str
    root: Path
    database: ImageTable
    queries: ImageTable


def parse_name(name: str) -> ImageName:
    """Read the fields of a file name (folders before it are ignored); raises UserError without coordinates.

    Optional numbers that are not numbers count as unknown: only the two UTM values are required.
    """
    fields, extension = _fields(name)
    utm = _utm(fields)
    if utm is None:
        raise UserError(f"{name}: no UTM coordinates in the file name. {_EXPECTED_NAME}")
    texts = (fields + [""] * _NOTE)[: _NOTE + 1]
    zone = _number(texts[3])
    return ImageName(
        utm_east=utm[0],
        utm_north=utm[1],
        zone_number=None if zone is None else int(zone),
        zone_letter=texts[4],
        latitude=_number(texts[5]),
        longitude=_number(texts[6]),
        pano_id=texts[7],
        tile_num=texts[8],
        heading=_number(texts[9]),
        pitch=_number(texts[10]),
        roll=_number(texts[11]),
        height=_number(texts[12]),
        timestamp=texts[13],
        note=_note(fields),
        extension=extension or ".jpg",
    )


def format_name(name: ImageName) -> str:
    """Write a file name: UTM with 2 decimals, latitude and longitude with 5, heading in whole degrees in [0, 360).

    Raises:
        UserError: coordinates that are not finite, or a text field with a separator (`@`, `/`) in it.
    """
    if not (math.isfinite(name.utm_east) and math.isfinite(name.utm_north)):
        raise UserError(f"UTM coordinates ({name.utm_east}, {name.utm_north}) of an image: expected two finite numbers")
    fields = [
        f"{name.utm_east:010.2f}",
        f"{name.utm_north:010.2f}",
        "" if name.zone_number is None else f"{name.zone_number:02d}",
        name.zone_letter,
        "" if name.latitude is None else f"{name.latitude:09.5f}",
        "" if name.longitude is None else f"{name.longitude:010.5f}",
        name.pano_id,
        name.tile_num,
        "" if name.heading is None else f"{round(name.heading) % 360:03d}",
        _format_number(name.pitch),
        _format_number(name.roll),
        _format_number(name.height),
        name.timestamp,
        name.note,
    ]
    for text in fields:
        if "@" in text or "/" in text or "\0" in text:
            raise UserError(f"field {text!r} of an image name: expected no @ and no / in it")
    return "@" + "@".join(fields) + "@" + name.extension


def read_folder(folder: Path | str) -> ImageTable:
    """Read the names of all images below a folder, at any depth, sorted by relative path.

    `<folder>_images_paths.txt` beside the folder, where present, lists the images (one path a line, relative to the
    folder, to its parent, or longer) and the folder is not walked. Hidden files are left out; links to folders are
    followed.

    Raises:
        UserError: no such folder, no image in it, an index of files that are not there, names without coordinates.
    """
    folder = Path(folder)
    index = folder.with_name(folder.name + INDEX_SUFFIX)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. {remedy(dataset_of(folder))}")
    indexed = index.is_file()
    builder = TableBuilder()
    bad: list[str] = []
    bad_count = 0
    for relative in _indexed_names(index, folder) if indexed else _walk(os.fsencode(folder), b"", frozenset()):
        path = os.fsdecode(relative)
        fields, _ = _fields(path)
        utm = _utm(fields)
        if utm is None:
            bad_count += 1
            bad += [path] if len(bad) < _NAMED else []
            continue
        heading = _number(fields[9]) if len(fields) > 9 else None
        timestamp = fields[13] if len(fields) > 13 else ""
        builder.add(path, *utm, math.nan if heading is None else heading, timestamp, _note(fields))
    if bad:
        others = f" and {bad_count - len(bad)} more" if bad_count > len(bad) else ""
        raise UserError(f"{folder}: no UTM coordinates in the names of {', '.join(bad)}{others}. {_EXPECTED_NAME}")
    if not len(builder):
        where = f"{index} (the index of {folder})" if indexed else str(folder)
        raise UserError(f"{where}: no images ({', '.join(IMAGE_EXTENSIONS)}). {remedy(dataset_of(folder))}")
    table = builder.build(folder)
    return _sorted(table) if indexed else table


def read_split(root: Path | str, split: str, queries_folder: str = "queries") -> Split:
    """Read one split of the dataset at `root` = <datasets_folder>/<dataset_name>.

    Raises:
        UserError: the dataset, the split or one of its folders is missing or empty, or names lack coordinates.
    """
    root = Path(root)
    folder = split_folder(root, split)
    if not root.is_dir():
        raise UserError(f"{root}: no such dataset. {remedy(root)}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such split.{instead(folder, '')} {remedy(root)}")
    queries = folder / queries_folder
    if not queries.is_dir():
        raise UserError(f"{queries}: no such folder of queries.{instead(queries, 'queries')} {remedy(root)}")
    return Split(split, root, read_folder(folder / "database"), read_folder(queries))


_EXPECTED_NAME = "Expected @UTM_east@UTM_north@...@.jpg, see docs/datasets.md; rename these files or remove them"


def _fields(path: str) -> tuple[list[str], str]:
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    if dot and f".{extension.lower()}" in IMAGE_EXTENSIONS:
        return stem.split("@"), dot + extension
    return name.split("@"), ""


def _utm(fields: list[str]) -> tuple[float, float] | None:
    if len(fields) < 3:
        return None
    try:
        east, north = float(fields[1]), float(fields[2])
    except ValueError:
        return None
    return (east, north) if math.isfinite(east) and math.isfinite(north) else None


def _note(fields: list[str]) -> str:
    # The last field before the extension, also where a dataset squeezed in more fields than the protocol has.
    if len(fields) <= _NOTE:
        return ""
    return fields[-2] if len(fields) > _NOTE + 1 and fields[-1] == "" else fields[-1]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _format_number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{int(value):03d}" if value == int(value) else repr(float(value))


def _is_image(name: bytes) -> bool:
    return name.lower().endswith((b".jpg", b".jpeg", b".png")) and not name.startswith(b".")


def _walk(folder: bytes, prefix: bytes, ancestors: frozenset[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the images below a folder; a folder sorts as its name with a slash, so all paths come out sorted."""
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:  # a link to a folder above it
        return
    names: list[bytes] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(b"."):
                    continue
                if entry.is_dir():
                    names.append(entry.name + b"/")
                elif _is_image(entry.name):
                    names.append(entry.name)
    except OSError as error:
        raise UserError(
            f"{os.fsdecode(folder)}: cannot be listed ({error.strerror}). Expected a folder that you may read"
        ) from error
    names.sort()
    for name in names:
        if name.endswith(b"/"):
            yield from _walk(os.path.join(folder, name[:-1]), prefix + name, ancestors | {identity})
        else:
            yield prefix + name


def _indexed_names(index: Path, folder: Path) -> Iterator[bytes]:
    """Yield the paths of an index file relative to the folder; only a new prefix costs a look at the disk."""
    known: bytes | None = None
    name = os.fsencode(folder.name) + b"/"
    with open(index, "rb") as lines:
        for number, raw in enumerate(lines):
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 0 else raw
            line = line.rstrip(b"\r\n")
            if b"/" not in line:
                line = line.replace(b"\\", b"/")
            while line.startswith((b"./", b"../", b"/")):
                line = line.partition(b"/")[2]
            if not _is_image(line.rpartition(b"/")[2]):
                continue
            # Relative to the folder so far, but this line names the folder itself: it may be relative to the parent.
            doubtful = known == b"" and line.startswith(name)
            if known is None or doubtful or not line.startswith(known):
                known = _prefix_to_drop(line, folder, index)
            yield line[len(known) :]


def _prefix_to_drop(line: bytes, folder: Path, index: Path) -> bytes:
    start = 0
    while True:
        if os.path.exists(os.path.join(os.fsencode(folder), line[start:])):
            return line[:start]
        start = line.find(b"/", start) + 1
        if start == 0:
            raise UserError(
                f"{index}: lists {os.fsdecode(line)}, which is not in {folder}. Expected paths relative to that folder "
                f"or to its parent; to walk the folder instead: rm '{index}'"
            )


def _sorted(table: ImageTable) -> ImageTable:
    """Return the table sorted by relative path, each image once."""
    paths = [os.fsencode(path) for path in table.relative_paths()]
    if all(a < b for a, b in pairwise(paths)):
        return table
    order = sorted(range(len(paths)), key=paths.__getitem__)
    rows = order[:1] + [row for previous, row in pairwise(order) if paths[row] != paths[previous]]
    if len(rows) < len(table):
        LOG.warning("%s%s: %d lines name an image again", table.root, INDEX_SUFFIX, len(table) - len(rows))
    return table.select(np.array(rows, np.int64))
