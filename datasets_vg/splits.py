"""Which folders of images a dataset has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.data.layout import SPLITS, remedy, split_folder
from vgbench.errors import UserError


@dataclass(frozen=True)
class SplitFolders:
    """The folders of one split: database is None where the split has no such level (sets of places)."""

    name: str
    database: Path | None
    queries: tuple[Path, ...]
    places: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(folder for folder in (self.places, self.database, *self.queries) if folder is not None)


def find_splits(root: Path) -> list[SplitFolders]:
    """Return the splits below root/images, or below root; one without database and queries is a set of places.

    Raises:
        UserError: there is no such folder, or no split in it.
    """
    folders = [split_folder(root, name) for name in SPLITS]
    found = [_split(folder) for folder in folders if folder.is_dir()]
    if not found:
        what = "no such folder" if not root.is_dir() else "no images/train, images/val or images/test in it"
        raise UserError(f"{root}: {what}. {remedy(root)}")
    return found


def _split(folder: Path) -> SplitFolders:
    queries = tuple(sorted(p for p in folder.iterdir() if p.is_dir() and p.name.startswith("queries")))
    database = folder / "database"
    if not database.is_dir() and not queries:
        return SplitFolders(folder.name, None, (), folder)
    return SplitFolders(folder.name, database if database.is_dir() else None, queries)
