"""Splits as the doors and the training modes read them: checked before anything costs time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vgbench.data.few import few_images
from vgbench.data.options import DataOptions
from vgbench.data.protocol import Split, read_split
from vgbench.data.verify import check_images


def read_checked_split(
    options: DataOptions, root: Path, name: str, queries_folder: str = "queries", *, few: bool = False
) -> Split:
    """Read a split, or a few of its images, and check that they can be decoded.

    Raises:
        UserError: the split is missing or empty, names lack coordinates, images cannot be read.
    """
    split = read_split(root, name, queries_folder)
    if few:
        train = name == "train"
        split = few_images(
            split, options.train_positives_dist_threshold if train else options.val_positive_dist_threshold
        )
    database, queries = (
        check_images(table, options.on_bad_image, options.num_workers) for table in (split.database, split.queries)
    )
    return dataclasses.replace(split, database=database, queries=queries)
