"""Training images by place: GSV-Cities and GSV-XS as on disk, and any train split of the folder protocol."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vgbench.data.labelled_table import LabelledTable
from vgbench.data.layout import DATAFRAMES, split_folder
from vgbench.data.options import DataOptions
from vgbench.data.protocol import IMAGE_EXTENSIONS, read_folder
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.data.utm import in_own_zones
from vgbench.errors import UserError

IMAGES = "Images"
_COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")


def read_train_images(data: DataOptions, root: Path) -> ImageTable:
    """Read the database and the queries of a train split as one table, and check that they can be decoded.

    Raises:
        UserError: no train split with images, or an image that cannot be read.
    """
    from vgbench.data.verify import check_images  # with torch, which names are read without

    folder = split_folder(root, "train")
    table = read_folder(folder if folder.is_dir() else folder / "database")
    return check_images(table, data.on_bad_image, data.num_workers)


def read_known_places(data: DataOptions, root: Path, cities: Sequence[str]) -> LabelledTable | None:
    """Read a set whose places are known: GSV-Cities (Images/, Dataframes/) or GSV-XS (<City>/@...@<place>@.jpg).

    Args:
        root: the dataset's folder; GSV-XS may also lie in its images/train.
        cities: use these only; all where empty.

    Returns:
        None where `root` is a dataset in the folder protocol: its places are derived from coordinates.

    Raises:
        UserError: a city that is not there, a broken data frame, an image that cannot be read.
    """
    if (root / DATAFRAMES).is_dir():
        table, places = read_gsv_cities(root, cities)
    else:
        folder = place_style_folder(root)
        if folder is None:
            if cities:
                raise UserError(
                    f"--cities {' '.join(cities)}: {root} has no cities. Expected a set of GSV-Cities or GSV-XS; "
                    "see docs/datasets.md"
                )
            return None
        table, places = read_gsv_xs(folder, cities)
    from vgbench.data.verify import check_images

    checked = check_images(table, data.on_bad_image, data.num_workers)
    if len(checked) != len(table):
        kept = set(checked.relative_paths())
        places = [place for place, path in zip(places, table.relative_paths(), strict=True) if path in kept]
    labels = np.unique(np.array(places), return_inverse=True)[1].reshape(-1)
    return LabelledTable(checked, labels.astype(np.int64))


def read_gsv_cities(root: Path, cities: Sequence[str]) -> tuple[ImageTable, list[str]]:
    """Return the images of GSV-Cities' data frames and the place of each, without looking at the files.

    Raises:
        UserError: a city that is not there, a broken data frame.
    """
    files = _chosen({file.stem: file for file in sorted((root / DATAFRAMES).glob("*.csv"))}, cities, root / DATAFRAMES)
    builder, places = TableBuilder(), []
    for city, file in files.items():
        extension = _extension(root / IMAGES / city)
        try:
            with file.open(newline="", encoding="utf-8") as lines:
                rows = list(csv.DictReader(lines))
            utm, _ = in_own_zones([float(row["lat"]) for row in rows], [float(row["lon"]) for row in rows])
            for row, (east, north) in zip(rows, utm.tolist(), strict=True):
                taken = f"{int(row['year']):04d}{int(row['month']):02d}"
                path = f"{city}/{_gsv_name(city, row)}{extension}"
                builder.add(path, east, north, float(row["northdeg"]), taken)
                places.append(f"{city}/{int(row['place_id'])}")
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{file}: cannot be read as places ({error!r}). Expected a CSV with columns {', '.join(_COLUMNS)}"
            ) from error
    if not places:
        raise UserError(f"{root / DATAFRAMES}: no places. Expected <City>.csv with columns {', '.join(_COLUMNS)}")
    return builder.build(root / IMAGES), places


def _gsv_name(city: str, row: dict[str, str]) -> str:
    """Return the stem of the file name that a line of a data frame stands for."""
    place, month, heading = int(row["place_id"]), int(row["month"]), int(row["northdeg"])
    where = f"{row['lat']}_{row['lon']}_{row['panoid']}"
    return f"{city}_{place:07d}_{int(row['year']):04d}_{month:02d}_{heading:03d}_{where}"


def _extension(folder: Path) -> str:
    """Return how a city's images end: .JPG as published, or what they were converted to."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Expected the images of a city of GSV-Cities; unpack them there")
    return next((entry.suffix for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_EXTENSIONS), ".JPG")


def place_style_folder(root: Path) -> Path | None:
    """Return the folder whose subfolders are cities of GSV-XS, if there is one."""
    for folder in (root / "images" / "train", root / "train", root):
        if not folder.is_dir():
            continue
        names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        if names and not {"database", "images", "train", IMAGES} & set(names) and _has_images(folder / names[0]):
            return folder
    return None


def _has_images(folder: Path) -> bool:
    return any(entry.name.startswith("@") for entry in folder.iterdir())


def read_gsv_xs(folder: Path, cities: Sequence[str]) -> tuple[ImageTable, list[str]]:
    """Return the images of GSV-XS below `folder` and the place of each.

    Raises:
        UserError: a city that is not there, names without coordinates or places.
    """
    table = read_folder(folder)
    city_of = [path.partition("/")[0] for path in table.relative_paths()]
    chosen = _chosen({city: folder / city for city in dict.fromkeys(city_of)}, cities, folder)
    rows = np.array([row for row, city in enumerate(city_of) if city in chosen], np.int64)
    places = [f"{city_of[row]}/{table.place_id(int(row))}" for row in rows]
    nameless = next((row for row in rows if not table.place_id(int(row))), None)
    if nameless is not None:
        raise UserError(
            f"{table.path(int(nameless))}: no place in the file name. Expected it in the field before the extension "
            "(@...@<place>@.jpg), as GSV-XS has it"
        )
    return table.select(rows), places


def _chosen(known: dict[str, Path], cities: Sequence[str], where: Path) -> dict[str, Path]:
    for city in cities:
        if city not in known:
            raise UserError(f"--cities {city}: not in {where}. Expected among: {', '.join(known)}")
    return {city: known[city] for city in cities} if cities else known
