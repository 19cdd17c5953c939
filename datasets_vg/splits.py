"""Which folders of images per dataset has, in any layout that training or testing reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vgbench.data import ImageTable
from vgbench.data.layout import DATAFRAMES, SPLITS, remedy, split_folder
from vgbench.data.listing import walk
from vgbench.data.places import IMAGES, place_style_folder, read_gsv_cities, read_gsv_xs
from vgbench.data.protocol import Examined, examine_folder
from vgbench.errors import UserError


@dataclass(frozen=True)
class SplitFolders:
    """The folders of one split.

    Attributes:
        name: "train", "val" or "test".
        database: None where the split has no such level.
        queries: all its sets of queries.
        places: the folder of a split without such levels, such as a set of places.
        frames: that set is GSV-Cities, whose positions are in data frames.
        cities: that set has a folder a city, and a place for each image: GSV-Cities, GSV-XS.
    """

    name: str
    database: Path | None
    queries: tuple[Path, ...]
    places: Path | None = None
    frames: bool = False
    cities: bool = False

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(folder for folder in (self.places, self.database, *self.queries) if folder is not None)

    def label(self, folder: Path) -> str:
        """Return what a folder is called in tables: "test/database", or "train" where that is all there is."""
        return self.name if folder == self.places else f"{self.name}/{folder.name}"

    def by_city(self) -> Iterator[tuple[str, ImageTable, int]]:
        """Yield the cities of a set of places: their name, images and number of places. Raises UserError."""
        assert self.places is not None
        table, places = read_gsv_cities(self.places.parent, ()) if self.frames else read_gsv_xs(self.places, ())
        for city, rows, count in places.by_city():
            yield city, table.select(rows), count

    def examine(self, folder: Path) -> Examined:
        """Read the names of one of the folders, or the data frames that stand for it; raises UserError."""
        if not (self.frames and folder == self.places):
            return examine_folder(folder)
        table, _ = read_gsv_cities(folder.parent, ())
        left_out: Counter[str] = Counter()
        for _ in walk(bytes(folder), left_out):
            pass
        return Examined(table, (), left_out)


def find_splits(root: Path) -> list[SplitFolders]:
    """Return the splits of a dataset: below root/images, below root; GSV-Cities and GSV-XS are the split "train".

    Raises:
        UserError: there is no such folder, or no split in it.
    """
    if (root / DATAFRAMES).is_dir():
        return [SplitFolders("train", None, (), root / IMAGES, frames=True, cities=True)]
    folders = [split_folder(root, name) for name in SPLITS]
    places = place_style_folder(root)
    found = [_split(folder, places) for folder in folders if folder.is_dir()]
    if not found:
        if places is not None:
            return [SplitFolders("train", None, (), places, cities=True)]
        what = "no such folder" if not root.is_dir() else "no images/train, images/val or images/test in it"
        raise UserError(f"{root}: {what}. {remedy(root)}")
    return found


def _split(folder: Path, places: Path | None) -> SplitFolders:
    queries = tuple(sorted(p for p in folder.iterdir() if p.is_dir() and p.name.startswith("queries")))
    database = folder / "database"
    if not database.is_dir() and not queries:
        return SplitFolders(folder.name, None, (), folder, cities=folder == places)
    return SplitFolders(folder.name, database if database.is_dir() else None, queries)
