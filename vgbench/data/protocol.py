"""The folder protocol: coordinates in file names, folders of images -> ImageTable, dataset folders -> Split."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vgbench.data.layout import dataset_of, instead, remedy, split_folder
from vgbench.data.listing import IMAGE_EXTENSIONS, INDEX_SUFFIX, image_names, index_of, report_left_out
from vgbench.data.many_names import in_blocks, read_usual
from vgbench.data.positions import Finding, SaidPositions, in_one_frame, is_plain_decimal, is_zone, position_findings
from vgbench.data.positives import BY_DISTANCE, GroundTruth
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

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
    """The database and the queries of one split ("train", "val", "test") of the dataset at `root`.

    `truth` says which database images are right for which query.
    """

    name: str
    root: Path
    database: ImageTable
    queries: ImageTable
    truth: GroundTruth = BY_DISTANCE

    @property
    def located(self) -> bool:
        """Whether all images have coordinates."""
        return bool(np.isfinite(self.database.utm).all() and np.isfinite(self.queries.utm).all())


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


@dataclass(frozen=True)
class Examined:
    """What reading the names of a folder found.

    Attributes:
        table: the images whose names have coordinates, sorted by relative path, with the metres of the names.
        findings: what is wrong with their positions; names without coordinates are one of them.
        left_out: how many other files there are, by extension.
        nameless: the relative paths of all images without coordinates in their names.
    """

    table: ImageTable
    findings: tuple[Finding, ...]
    left_out: Counter[str]
    nameless: tuple[str, ...] = ()


def examine_folder(folder: Path | str) -> Examined:
    """Read the names of all images below a folder and say what is wrong with their positions.

    Raises:
        UserError: no such folder, an index of files that are not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. {remedy(dataset_of(folder))}")
    builder, said, left_out = TableBuilder(), SaidPositions(), Counter[str]()
    bad: list[str] = []
    for block in in_blocks(image_names(folder, left_out)):
        columns = read_usual(block)
        if columns is None:
            bad += _add_each(block, builder, said)
        else:
            builder.extend(columns)
            said.extend(columns)
    positions = said.arrays()
    table = builder.build(folder, positions.zone)
    findings = position_findings(table, positions)
    if bad:
        findings.insert(0, _nameless(folder, bad))
    if index_of(folder).is_file():
        table = _sorted(table)
    return Examined(table, tuple(findings), left_out, tuple(bad))


def _add_each(paths: Sequence[bytes], builder: TableBuilder, said: SaidPositions) -> list[str]:
    """Read names one by one; return those without coordinates."""
    bad: list[str] = []
    for relative in paths:
        path = os.fsdecode(relative)
        fields, _ = _fields(path)
        utm = _utm(fields)
        if utm is None:
            bad.append(path)
            continue
        heading, timestamp, note = _further(fields)
        builder.add(path, *utm, heading, timestamp, note)
        said.add(fields)
    return bad


def read_folder(folder: Path | str) -> ImageTable:
    """Read the names of all images below a folder, at any depth, sorted by relative path.

    `<folder>_images_paths.txt` beside the folder, where present, lists the images (one path a line, relative to the
    folder, to its parent, or longer) and the folder is not walked. Hidden files are left out; links to folders are
    followed. Images of several UTM zones are brought into one (`positions.in_one_frame`).

    Raises:
        UserError: no such folder, no image in it, an index of files that are not there, names without coordinates, or
            with coordinates that cannot be (`positions.position_findings`).
    """
    return _in_one_frame([_read_checked(Path(folder))])[0]


def _read_checked(folder: Path) -> ImageTable:
    """Read a folder as `read_folder` does, with the metres of the names."""
    examined = examine_folder(folder)
    for finding in examined.findings:
        if finding.refused:
            raise UserError(finding.text)
    if not len(examined.table):
        index = index_of(folder)
        where = f"{index} (the index of {folder})" if index.is_file() else str(folder)
        raise UserError(f"{where}: no images ({', '.join(IMAGE_EXTENSIONS)}). {remedy(dataset_of(folder))}")
    for finding in examined.findings:
        LOG.warning("%s", finding.text)
    report_left_out(folder, examined.left_out)
    return examined.table


def read_split(root: Path | str, split: str, queries_folder: str = "queries") -> Split:
    """Read one split of the dataset at `root` = <datasets_folder>/<dataset_name>.

    Raises:
        UserError: the dataset, the split or one of its folders is missing or empty, names lack coordinates, or the
            positions of database and queries cannot be brought into one frame.
    """
    return read_splits(root, split, (queries_folder,))[0]


def read_splits(
    root: Path | str, split: str, queries_folders: Sequence[str], truth: GroundTruth | None = None
) -> list[Split]:
    """Read the database of one split once, and several folders of queries, as one `Split` each in one frame of metres.

    Where `truth` asks for no positions, names need none, and the metres are NaN.

    Raises:
        UserError: as `read_split`.
    """
    root, truth = Path(root), truth or BY_DISTANCE
    folder = split_folder(root, split)
    if not root.is_dir():
        raise UserError(f"{root}: no such dataset. {remedy(root, split)}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such split.{instead(folder, '')} {remedy(root, split)}")
    for queries in (folder / name for name in queries_folders):
        if not queries.is_dir():
            raise UserError(f"{queries}: no such folder of queries.{instead(queries, 'queries')} {remedy(root)}")
    folders = [folder / name for name in ("database", *queries_folders)]
    if truth.located:
        database, *asked = _in_one_frame([_read_checked(one) for one in folders])
    else:
        database, *asked = [_read_names(one) for one in folders]
    return [Split(split, root, database, queries, truth) for queries in asked]


def _read_names(folder: Path) -> ImageTable:
    """Read the images of a folder whose names need no coordinates."""
    builder, left_out = TableBuilder(), Counter[str]()
    for relative in image_names(folder, left_out):
        builder.add(os.fsdecode(relative), math.nan, math.nan)
    if not len(builder):
        raise UserError(f"{folder}: no images ({', '.join(IMAGE_EXTENSIONS)}). {remedy(dataset_of(folder))}")
    report_left_out(folder, left_out)
    table = builder.build(folder)
    return _sorted(table) if index_of(folder).is_file() else table


def _in_one_frame(tables: list[ImageTable]) -> list[ImageTable]:
    framed, done = in_one_frame(tables)
    if done is not None:
        LOG.warning("%s", done.text)
    return framed


_EXPECTED_NAME = (
    "Expected @UTM_east@UTM_north@...@.jpg with plain decimals (metres), see docs/datasets.md; rename these files or "
    "remove them"
)


def _fields(path: str) -> tuple[list[str], str]:
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    if dot and f".{extension.lower()}" in IMAGE_EXTENSIONS:
        return stem.split("@"), dot + extension
    return name.split("@"), ""


def _utm(fields: list[str]) -> tuple[float, float] | None:
    # Not whatever `float` takes: 20210601_153000 is a date.
    if len(fields) < 3 or not is_plain_decimal(fields[1]) or not is_plain_decimal(fields[2]):
        return None
    east, north = float(fields[1]), float(fields[2])
    return (east, north) if math.isfinite(east) and math.isfinite(north) else None


def _further(fields: list[str]) -> tuple[float, str, str]:
    """Return heading, timestamp and note; names that keep another order of fields have a note alone."""
    if len(fields) > 3 and fields[3] != "" and not is_zone(fields[3]):
        return math.nan, "", _note(fields)
    heading = _number(fields[9]) if len(fields) > 9 else None
    timestamp = fields[13] if len(fields) > 13 else ""
    return math.nan if heading is None else heading, timestamp, _note(fields)


def _nameless(folder: Path, bad: list[str]) -> Finding:
    others = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    text = f"{folder}: no UTM coordinates in the names of {', '.join(bad[:_NAMED])}{others}. {_EXPECTED_NAME}"
    return Finding(text, len(bad), refused=True)


def _note(fields: list[str]) -> str:
    # The last field before the extension, also where a dataset squeezed in more fields than the protocol has.
    if len(fields) <= _NOTE:
        return ""
    return fields[-2] if len(fields) > _NOTE + 1 and fields[-1] == "" else fields[-1]


def _number(text: str) -> float | None:
    value = float(text) if is_plain_decimal(text) else math.nan
    return value if math.isfinite(value) else None


def _format_number(value: float | None) -> str:
    if value is None:
        return ""
    # Never with an exponent, which no reader of names expects.
    return f"{int(value):03d}" if value == int(value) else np.format_float_positional(value, trim="-")


def _sorted(table: ImageTable) -> ImageTable:
    """Return the table sorted by relative path, each image once."""
    order = table.order()
    if len(order) == len(table) and bool((np.diff(order) > 0).all()):
        return table
    if len(order) < len(table):
        LOG.warning("%s%s: %d lines name an image again", table.root, INDEX_SUFFIX, len(table) - len(order))
    return table.select(order)
