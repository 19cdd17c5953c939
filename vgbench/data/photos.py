"""Somebody's own photographs, without coordinates, asked of a dataset's database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgbench.data.layout import split_folder
from vgbench.data.options import DataOptions
from vgbench.data.protocol import Split, read_folder
from vgbench.data.table import ImageTable
from vgbench.data.unlabelled import read_unlabelled
from vgbench.data.verify import check_images
from vgbench.errors import UserError
from vgbench.options import option


@dataclass(frozen=True)
class PhotosOptions:
    """Options of placing photographs whose coordinates nobody knows."""

    no_labels: bool = option(
        False,
        "--queries_folder is any folder of photographs without coordinates (of any size, in any layout): "
        "place them in the dataset's test database and write predictions.csv; there are no recalls",
    )
    database_folder: Path | None = option(
        None,
        "with --no_labels: find the photographs among those of this folder, in any layout and without coordinates, "
        "instead of in a dataset; predictions are file names",
        needs="no_labels",
    )
    confidence_queries: int = option(
        500,
        "with --no_labels: how many of the dataset's own test queries the confidence is learned from at most, where "
        "training left none; 0: go without a confidence",
        needs="no_labels",
    )

    def __post_init__(self) -> None:
        if self.confidence_queries < 0:
            raise UserError(f"--confidence_queries {self.confidence_queries}: expected 0 or more queries")


def read_photos_splits(options: DataOptions, root: Path, photos: PhotosOptions, split: str) -> list[Split]:
    """Return a database with the photographs of each `--queries_folder` as queries, whose UTM is NaN.

    The database is that of a split of the dataset at `root`, or all photographs in `--database_folder`. The folders are
    paths of their own, not within the dataset.

    Raises:
        UserError: no such dataset or folder, an empty one, or unreadable images and `--on_bad_image error`.
    """
    if photos.database_folder is not None:
        database = _read_plain(photos.database_folder, "--database_folder", options)
        root = database.root
    else:
        named = read_folder(split_folder(root, split) / "database")
        database = check_images(named, options.on_bad_image, options.num_workers)
    folders = [Path(name) for name in options.queries_folder]
    return [Split(split, root, database, _read_plain(folder, "--queries_folder", options)) for folder in folders]


def _read_plain(folder: Path, option: str, options: DataOptions) -> ImageTable:
    return read_unlabelled(
        folder.expanduser().resolve(), option, on_bad_image=options.on_bad_image, num_workers=options.num_workers
    )
