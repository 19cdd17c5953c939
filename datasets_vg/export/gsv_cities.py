"""A split of the folder protocol as places in GSV-Cities' layout (Ali-bey et al., 2022), to train on in any project.

Places are CosPlace's classes of one group, as SelaVPR++, ImAge and QAA made theirs of Pitts30k, MSLS and SF-XL (M 15,
alpha 60, N 3, L 2); or all images within a radius of one.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vgbench.data import ImageTable, read_folder
from vgbench.data.cells import cell_indices, heading_bins, labels_of
from vgbench.data.layout import DATAFRAMES, split_folder
from vgbench.data.places import IMAGES
from vgbench.data.utm import latitude_longitude, zones
from vgbench.errors import UserError

COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
APART = 25.0  # metres between the images of two places that a radius makes
_TAKEN = re.compile(r"(\d{4})-?(\d{2})")

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """CosPlace's: side in metres, every how many cells, width of a bin in degrees, every how many bins; groups kept."""

    M: float
    N: int
    alpha: float
    L: int
    groups: int


def write(root: Path, output: Path, *, split: str, city: str, how: Cells | float, at_least: int, copy: bool) -> str:
    """Write one city in GSV-Cities' layout, whole or not at all; returns what was written, in words.

    Args:
        root: a dataset in the folder protocol.
        output: a folder that is not there yet.
        split: whose images, database and queries.
        city: letters, digits, - and _ in it stay, others become _.
        how: cells, or a radius in metres.
        at_least: places with fewer images are left out.
        copy: copy the images rather than link to them.

    Raises:
        UserError: the output is there already; no such split; names without UTM zones, of which no latitude follows;
            images of several kinds; no two places.
    """
    if os.path.lexists(output):
        raise UserError(f"{output}: is there already. Expected a new folder; remove it, or name another by --output")
    folder = split_folder(root, split)
    table = read_folder(folder if folder.is_dir() else folder / "database")
    labels = cell_places(table, how, at_least) if isinstance(how, Cells) else radius_places(table, how, at_least)
    places = int(labels.max(initial=-1)) + 1
    if places < 2:
        raise UserError(
            f"{folder}: {places} places of {at_least} images or more. Expected two at least; lower --min_images, or "
            "make places larger by --M or --radius"
        )
    rows = np.flatnonzero(labels >= 0).astype(np.int64)
    rows = rows[np.argsort(labels[rows], kind="stable")]
    name = re.sub(r"[^A-Za-z0-9-]+", "_", city).strip("_") or "city"
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_city(table, rows, labels, name, partial, copy=copy)
        partial.replace(output)
    except OSError as error:
        raise UserError(
            f"{error.filename or output}: cannot be written ({error.strerror or error}). Expected a folder that you "
            "may write, with space left"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    unknown = int(np.isnan(table.heading[rows]).sum())
    note = f"; {unknown} have no heading and say northdeg 0" if unknown else ""
    return f"{output}: {places} places, {len(rows)} of {len(table)} images{note}"


def cell_places(table: ImageTable, cells: Cells, at_least: int) -> Rows:
    """Return the place of each image, int64 [N], -1 where it has none: CosPlace's classes in the largest groups."""
    labels, keys = labels_of(cell_indices(table.utm, cells.M), heading_bins(table.heading, cells.alpha))
    groups, _ = labels_of(keys[:, :2] % cells.N, keys[:, 2] % cells.L)
    counts = np.bincount(labels)
    usable = counts >= at_least
    sizes = np.bincount(groups, usable)
    kept = np.argsort(-sizes, kind="stable")[: cells.groups]
    return _renumbered(np.where((usable & np.isin(groups, kept))[labels], labels, -1))


def radius_places(table: ImageTable, radius: float, at_least: int) -> Rows:
    """Return the place of each image, int64 [N], -1 where it has none.

    In the order of their names, images become the centre of a place with all those within the radius, if none of them
    is within `APART` of another place's.
    """
    tree = cKDTree(table.utm)
    labels = np.full(len(table), -1, np.int64)
    free = np.ones(len(table), bool)
    found = 0
    for row in range(len(table)):
        if not free[row]:
            continue
        near = np.array(tree.query_ball_point(table.utm[row], radius), np.int64)
        near = near[free[near]]
        if len(near) < at_least:
            continue
        labels[near] = found
        found += 1
        # No image of another place is nearer than APART to any that a place has.
        for touched in tree.query_ball_point(table.utm[near], APART):
            free[touched] = False
    return labels


def _renumbered(labels: Rows) -> Rows:
    distinct, found = np.unique(labels, return_inverse=True)
    return (found.reshape(-1) - int(distinct[0] < 0)).astype(np.int64)


def _write_city(table: ImageTable, rows: Rows, labels: Rows, city: str, folder: Path, *, copy: bool) -> None:
    degrees = latitude_longitude(table.utm[rows], zones(table, rows))
    if np.isnan(degrees).any():
        first = table.path(int(rows[np.isnan(degrees[:, 0]).argmax()]))
        raise UserError(
            f"{first}: its name has no UTM zone, and GSV-Cities has latitudes. Expected the zone in fields 3 and 4 "
            "(@<easting>@<northing>@<zone>@<letter>@...)"
        )
    kinds = {table.relative_path(int(row)).rpartition(".")[2] for row in rows}
    if len(kinds) > 1:
        raise UserError(
            f"{table.root}: has images that end in {' and '.join(sorted(kinds))}, and a city of GSV-Cities has one "
            "ending. Expected images of one kind; convert the others"
        )
    ending = f".{kinds.pop()}"
    (folder / DATAFRAMES).mkdir(parents=True)
    (folder / IMAGES / city).mkdir(parents=True)
    with (folder / DATAFRAMES / f"{city}.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, COLUMNS)
        lines.writeheader()
        for row, (lat, lon) in zip(rows.tolist(), degrees.tolist(), strict=True):
            values = _line(table, row, int(labels[row]), city, (lat, lon))
            lines.writerow(values)
            stem = (
                f"{city}_{values['place_id']:07d}_{values['year']:04d}_{values['month']:02d}_{values['northdeg']:03d}_"
                f"{values['lat']}_{values['lon']}_{values['panoid']}"
            )
            target, source = folder / IMAGES / city / f"{stem}{ending}", table.path(row).resolve()
            if copy:
                shutil.copyfile(source, target)
            else:
                target.symlink_to(source)


def _line(table: ImageTable, row: int, place: int, city: str, degrees: tuple[float, float]) -> dict[str, int | str]:
    taken = _TAKEN.match(table.timestamp(row))
    heading = float(table.heading[row])
    # Not of this machine: the same images have the same names everywhere.
    panorama = hashlib.sha256(table.relative_path(row).encode("utf-8", "surrogateescape")).hexdigest()[:22]
    return {
        "place_id": place,
        "year": int(taken[1]) if taken else 0,
        "month": int(taken[2]) if taken else 0,
        "northdeg": 0 if np.isnan(heading) else round(heading) % 360,
        "city_id": city,
        "lat": f"{degrees[0]:.8f}",
        "lon": f"{degrees[1]:.8f}",
        "panoid": panorama,
    }
