"""Which folders of images a dataset has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError

SPLITS = ("train", "val", "test")


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
    """Return the splits below root/images; a split without database and queries is a set of places.

    Raises:
        UserError: there is no such folder, or no split in it.
    """
    images = root / "images"
    found = [_split(images / name) for name in SPLITS if (images / name).is_dir()]
    if not found:
        what = "no such folder" if not root.is_dir() else "no images/train, images/val or images/test in it"
        raise UserError(
            f"{root}: {what}. Expected a dataset in the folder protocol, see docs/datasets.md (--datasets_folder says "
            f"where); to fetch it: python3 -m datasets_vg prepare {root.name}"
        )
    return found


def _split(folder: Path) -> SplitFolders:
    queries = tuple(sorted(p for p in folder.iterdir() if p.is_dir() and p.name.startswith("queries")))
    database = folder / "database"
    if not database.is_dir() and not queries:
        return SplitFolders(folder.name, None, (), folder)
    return SplitFolders(folder.name, database if database.is_dir() else None, queries)
