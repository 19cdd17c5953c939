"""Training images by place: GSV-Cities and GSV-XS as on disk, and any train split of the folder protocol."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgbench.data.labelled_table import LabelledTable, Rows
from vgbench.data.layout import DATAFRAMES, split_folder
from vgbench.data.options import DataOptions
from vgbench.data.protocol import IMAGE_EXTENSIONS, read_folder
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.data.utm import in_own_zones
from vgbench.errors import UserError

IMAGES = "Images"
_ROWS_AT_ONCE = 1024  # of a data frame, which weigh a kilobyte each
_COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")


def read_train_images(data: DataOptions, root: Path) -> ImageTable:
    """Read the database and the queries of a train split as one table, and check that they can be decoded.

    Raises:
        UserError: no train split with images, or an image that cannot be read.
    """
    from vgbench.data.verify import check_images  # with torch, which names are read without

    folder = split_folder(root, "train")
    table = read_folder(folder if folder.is_dir() else folder / "database")
    return check_images(table, data.on_bad_image, data.checkers)


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

    checked = check_images(table, data.on_bad_image, data.checkers)
    of_image = places.of_image
    if len(checked) != len(table):
        kept = set(checked.relative_paths())
        of_image = of_image[np.array([path in kept for path in table.relative_paths()])]
    return LabelledTable(checked, np.unique(of_image, return_inverse=True)[1].reshape(-1).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Places:
    """The place of each of N images.

    Attributes:
        names: "<city>/<place>" of each place, sorted.
        of_image: int32 [N], indices of `names`.
    """

    names: tuple[str, ...]
    of_image: NDArray[np.int32]

    def by_city(self) -> Iterator[tuple[str, Rows, int]]:
        """Yield each city: its name, the rows of its images (int64 [n]) and its number of places."""
        cities, city_of = np.unique([name.partition("/")[0] for name in self.names], return_inverse=True)
        for number, city in enumerate(cities.tolist()):
            of_it = city_of.reshape(-1) == number
            yield city, np.flatnonzero(of_it[self.of_image]), int(of_it.sum())


class _PlacesBuilder:
    """Grows `Places` an image at a time: a text for each of millions of images would outweigh their table."""

    def __init__(self) -> None:
        self._of_image = array("i")
        self._known: dict[str, int] = {}

    def add(self, name: str) -> None:
        self._of_image.append(self._known.setdefault(name, len(self._known)))

    def build(self) -> Places:
        names = sorted(self._known)
        rank = np.empty(len(names), np.int32)
        rank[[self._known[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        return Places(tuple(names), rank[np.array(self._of_image, np.int32)])


def knows_places(root: Path) -> bool:
    """Whether a dataset brings its places, as GSV-Cities and GSV-XS do."""
    return (root / DATAFRAMES).is_dir() or place_style_folder(root) is not None


def read_gsv_cities(root: Path, cities: Sequence[str]) -> tuple[ImageTable, Places]:
    """Return the images of GSV-Cities' data frames and the place of each, without looking at the files.

    Raises:
        UserError: a city that is not there, a broken data frame.
    """
    files = _chosen({file.stem: file for file in sorted((root / DATAFRAMES).glob("*.csv"))}, cities, root / DATAFRAMES)
    builder, places = TableBuilder(), _PlacesBuilder()
    for city, file in files.items():
        extension = _extension(root / IMAGES / city)
        try:
            with file.open(newline="", encoding="utf-8") as lines:
                rows = csv.DictReader(lines)
                while block := list(islice(rows, _ROWS_AT_ONCE)):
                    _add_rows(block, city, extension, builder, places)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            raise UserError(
                f"{file}: cannot be read as places ({error!r}). Expected a CSV with columns {', '.join(_COLUMNS)}"
            ) from error
    if not len(builder):
        raise UserError(f"{root / DATAFRAMES}: no places. Expected <City>.csv with columns {', '.join(_COLUMNS)}")
    return builder.build(root / IMAGES), places.build()


def _add_rows(
    rows: Sequence[dict[str, str]], city: str, extension: str, builder: TableBuilder, places: _PlacesBuilder
) -> None:
    utm, _ = in_own_zones([float(row["lat"]) for row in rows], [float(row["lon"]) for row in rows])
    for row, (east, north) in zip(rows, utm.tolist(), strict=True):
        taken = f"{int(row['year']):04d}{int(row['month']):02d}"
        builder.add(f"{city}/{_gsv_name(city, row)}{extension}", east, north, float(row["northdeg"]), taken)
        places.add(f"{city}/{int(row['place_id'])}")


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


def read_gsv_xs(folder: Path, cities: Sequence[str]) -> tuple[ImageTable, Places]:
    """Return the images of GSV-XS below `folder` and the place of each.

    Raises:
        UserError: a city that is not there, names without coordinates or places.
    """
    table = read_folder(folder)
    here = dict.fromkeys(path.partition("/")[0] for path in table.relative_paths())
    chosen = _chosen({city: folder / city for city in here}, cities, folder)
    rows, places = array("q"), _PlacesBuilder()
    for row, path in enumerate(table.relative_paths()):
        city = path.partition("/")[0]
        if city not in chosen:
            continue
        place = table.place_id(row)
        if not place:
            raise UserError(
                f"{table.path(row)}: no place in the file name. Expected it in the field before the extension "
                "(@...@<place>@.jpg), as GSV-XS has it"
            )
        rows.append(row)
        places.add(f"{city}/{place}")
    whole = len(rows) == len(table)
    return table if whole else table.select(np.array(rows, np.int64)), places.build()


def _chosen(known: dict[str, Path], cities: Sequence[str], where: Path) -> dict[str, Path]:
    for city in cities:
        if city not in known:
            raise UserError(f"--cities {city}: not in {where}. Expected among: {', '.join(known)}")
    return {city: known[city] for city in cities} if cities else known
