"""Say in a table what is in a dataset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from datasets_vg.splits import SplitFolders, find_splits
from vgbench.data import ImageTable, neighbours_within, read_folder
from vgbench.data.image_file import open_header
from vgbench.errors import UserError

_SIZE_SAMPLE = 200


def stats_table(root: Path, radius: float) -> str:
    """Return a markdown table with a row for each folder of images.

    Columns: images; rectangle round their positions in km2; image sizes (of a sample); years;
    for queries the database images within `radius` metres, as least / median / most, and queries with none.
    A set of places (GSV-Cities, GSV-XS) has a row per city, with the number of places.

    Raises:
        UserError: no dataset there, or a folder in it cannot be read.
    """
    rows: list[tuple[object, ...]] = []
    for split in find_splits(root):
        if split.cities:
            rows += _city_rows(split)
            continue
        database = read_folder(split.database) if split.database else None
        for folder in split.all:
            table = database if database is not None and folder == split.database else read_folder(folder)
            name = split.label(folder)
            positives = _positives(table, database, radius) if folder in split.queries else ("", "")
            rows.append((name, len(table), _area(table), _sizes(table), _years(table), *positives))
    headers = [
        "folder",
        "images",
        "km2",
        "sizes",
        "years",
        f"positives in {radius:g} m (least / median / most)",
        "without",
        "places",
    ]
    if not any(len(row) == len(headers) for row in rows):
        headers.pop()
    return str(tabulate(rows, headers=headers, tablefmt="github"))


def _city_rows(split: SplitFolders) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    images = places = 0
    for city, table, count in split.by_city():
        rows.append((f"{split.name}/{city}", len(table), _area(table), _sizes(table), _years(table), "", "", count))
        images, places = images + len(table), places + count
    return [*rows, (f"{split.name}, {len(rows)} cities", images, "", "", "", "", "", places)]


def _positives(queries: ImageTable, database: ImageTable | None, radius: float) -> tuple[str, str]:
    if database is None:
        return "no database", ""
    neighbours = neighbours_within(queries.utm, database.utm, radius)
    counts = neighbours.counts
    return f"{counts.min()} / {np.median(counts):g} / {counts.max()}", str(neighbours.without().size)


def _area(table: ImageTable) -> str:
    """Return the area of the rectangle round all positions."""
    extent = np.ptp(table.utm, axis=0) / 1000
    return f"{extent[0] * extent[1]:.2f}"


def _sizes(table: ImageTable) -> str:
    """Return the commonest image sizes, width x height, of evenly spread images."""
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), _SIZE_SAMPLE)).astype(np.int64))
    sizes: Counter[str] = Counter()
    for row in rows.tolist():
        sizes[_size(table.path(row))] += 1
    shown = [size for size, _ in sizes.most_common(3)]
    return ", ".join(shown) + (" ..." if len(sizes) > 3 else "")


def _size(path: Path) -> str:
    try:
        with open_header(path) as image:
            return f"{image.width}x{image.height}"
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}). To find all such images: python3 -m datasets_vg verify"
        ) from error


def _years(table: ImageTable) -> str:
    years = sorted({stamp[:4] for stamp in (table.timestamp(row) for row in range(len(table))) if stamp[:4].isdigit()})
    return "" if not years else years[0] if years[0] == years[-1] else f"{years[0]}-{years[-1]}"
