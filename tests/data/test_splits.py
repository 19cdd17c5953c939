"""The few images of a dry run."""

from pathlib import Path

import numpy as np
import pytest

from vgbench.data import Split
from vgbench.data.splits import few_images
from vgbench.data.table import ImageTable, TableBuilder


def table(points) -> ImageTable:
    builder = TableBuilder()
    for number, (east, north) in enumerate(points):
        builder.add(f"{number}.jpg", east, north)
    return builder.build(Path("nowhere"))


def split_of(queries, database) -> Split:
    return Split("train", Path("nowhere"), table(database), table(queries))


def test_queries_keep_their_positives_and_there_are_few_of_everything():
    pick = np.random.default_rng(0)
    database = pick.uniform(0, 1e4, (3000, 2))
    alone = pick.uniform(5e4, 6e4, (500, 2))
    queries = np.concatenate([alone, database[::10] + 3])
    few = few_images(split_of(queries, database), near=10.0)
    assert len(few.queries) == 8 and 32 <= len(few.database) <= 64
    between = np.linalg.norm(few.queries.utm[:, None] - few.database.utm[None], axis=2)
    whole = np.linalg.norm(few.queries.utm[:, None] - database[None], axis=2)
    assert np.allclose(np.sort(between, axis=1)[:, :4], np.sort(whole, axis=1)[:, :4])
    assert between.min(axis=1).max() < 10
    assert np.ptp(few.database.utm, axis=0).min() > 9e3  # from all over
    assert len(set(few.database.relative_paths())) == len(few.database)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("database", [1, 2, 70])
def test_small_splits_stay_as_they_are(queries, database):
    points = [(10.0 * number, 0.0) for number in range(database)]
    few = few_images(split_of(points[:1] * queries, points), near=10.0)
    assert len(few.queries) == queries and len(few.database) >= min(database, 32)
    assert {few.database.relative_path(row) for row in range(min(4, database))} >= {"0.jpg"}


def test_queries_without_positives_are_still_there():
    few = few_images(split_of([(1e6, 0.0)] * 40, [(0.0, 0.0)] * 5), near=10.0)
    assert len(few.queries) == 8


def test_an_empty_split_stays_empty():
    split = split_of([], [(0.0, 0.0)])
    assert few_images(split, near=10.0) is split
