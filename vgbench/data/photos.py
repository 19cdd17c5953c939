"""Somebody's own photographs, without coordinates, asked of a dataset's database."""

from __future__ import annotations

from pathlib import Path

from vgbench.data.layout import split_folder
from vgbench.data.options import DataOptions
from vgbench.data.photos_options import PhotosOptions as PhotosOptions
from vgbench.data.protocol import Split, read_folder
from vgbench.data.table import ImageTable
from vgbench.data.unlabelled import read_unlabelled
from vgbench.data.verify import check_images


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
        database = check_images(named, options.on_bad_image, options.checkers)
    folders = [Path(name) for name in options.queries_folder]
    return [Split(split, root, database, _read_plain(folder, "--queries_folder", options)) for folder in folders]


def _read_plain(folder: Path, option: str, options: DataOptions) -> ImageTable:
    return read_unlabelled(
        folder.expanduser().resolve(), option, on_bad_image=options.on_bad_image, num_workers=options.checkers
    )
