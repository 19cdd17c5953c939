"""Splits as the commands and the training modes read them: checked before anything costs time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgbench.data.options import DataOptions
from vgbench.data.positives import GroundTruth
from vgbench.data.protocol import Split, read_splits
from vgbench.data.sequences import SequenceRules, SequenceTable, in_sequences, readable
from vgbench.data.table import ImageTable
from vgbench.data.verify import check_images


def read_checked_split(
    options: DataOptions,
    root: Path,
    name: str,
    queries_folder: str = "queries",
    *,
    few: bool = False,
    rules: SequenceRules | None = None,
) -> Split:
    """Read a split, or a few of its images, and check that they can be decoded.

    Args:
        rules: how its images are cut into sequences; None: it is of images.

    Raises:
        UserError: the split is missing or empty, names lack coordinates, images cannot be read, or are no sequences.
    """
    return read_checked_splits(options, root, name, (queries_folder,), few=few, rules=rules)[0]


def read_checked_splits(
    options: DataOptions,
    root: Path,
    name: str,
    queries_folders: Sequence[str],
    truth: GroundTruth | None = None,
    *,
    few: bool = False,
    rules: SequenceRules | None = None,
) -> list[Split]:
    """Read one database with several folders of queries, a split each, and check that they can be decoded.

    Raises:
        UserError: as `read_checked_split`.
    """
    splits = read_splits(root, name, queries_folders, truth)
    if rules is not None:
        splits = _of_sequences(splits, rules)
    if few:
        train = name == "train"
        near = options.train_positives_dist_threshold if train else options.val_positive_dist_threshold
        splits = [few_images(split, near) for split in splits]
    checked: dict[int, ImageTable] = {}
    for split in splits:
        for table in (split.database, split.queries):
            if id(table) not in checked:
                checked[id(table)] = _checked(table, options)
    return [
        dataclasses.replace(split, database=checked[id(split.database)], queries=checked[id(split.queries)])
        for split in splits
    ]


def _of_sequences(splits: Sequence[Split], rules: SequenceRules) -> list[Split]:
    """Cut the images of splits that share a database into sequences."""
    database = in_sequences(splits[0].database, rules)
    return [
        dataclasses.replace(
            split,
            database=database,
            queries=in_sequences(split.queries, rules),
            truth=dataclasses.replace(split.truth, sequences=rules.label),
        )
        for split in splits
    ]


def _checked(table: ImageTable, options: DataOptions) -> ImageTable:
    if not isinstance(table, SequenceTable):
        return check_images(table, options.on_bad_image, options.checkers)
    used = table.used()
    good = check_images(used, options.on_bad_image, options.checkers)
    # A window is left out with its frame: the frames around a gap are no neighbours.
    return table if len(good) == len(used) else readable(table, list(good.relative_paths()))


QUERIES = 8
NEAREST = 4  # database images of each of them
OTHERS = 32  # database images from all over


def few_images(split: Split, near: float) -> Split:
    """Return at most 8 queries and 64 database images, among them each query's nearest.

    Queries that have a database image within `near` metres come first, so that there is something to find; a split
    that is empty stays so.
    """
    queries, database = split.queries, split.database
    if len(queries) == 0 or len(database) == 0:
        return split
    from scipy.spatial import cKDTree  # it takes 0.4 s, and this alone needs it

    distances, nearest = cKDTree(database.utm).query(queries.utm, k=[*range(1, min(NEAREST, len(database)) + 1)])
    with_positive = np.flatnonzero(distances[:, 0] <= near)
    # At least two, since mining wants negatives.
    candidates = with_positive if len(with_positive) > 1 else np.arange(len(queries))
    chosen = candidates[spread(len(candidates), QUERIES)]
    rows = np.union1d(nearest[chosen].ravel(), spread(len(database), OTHERS))
    return dataclasses.replace(split, queries=queries.select(chosen), database=database.select(rows))


def spread(length: int, count: int) -> NDArray[np.int64]:
    """Return `count` indices below `length`, or all of them where there are fewer, evenly spaced."""
    return np.linspace(0, length - 1, min(count, length)).astype(np.int64)
