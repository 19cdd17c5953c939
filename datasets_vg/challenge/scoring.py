"""Predictions of the MSLS challenge against its ground truth, city by city, as its published evaluation counts.

Warburg et al., Mapillary Street-Level Sequences, CVPR 2020: a prediction is right within 25 m. Queries that are
panoramas, or have no right image in the database, do not count; predictions that are panoramas, or not of the type
that is asked for, are taken out before the first N are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from datasets_vg.challenge.choices import ALL
from datasets_vg.challenge.metadata import LEVELS, POSITIONS, Level, read_level
from datasets_vg.challenge.predictions import Ranked
from vgbench.data.positives import neighbours_within
from vgbench.errors import UserError

VALUES = (1, 5, 10, 20)
"""Of N, in recall and mean average precision."""
_DEPTH = 3


@dataclass(frozen=True)
class Truth:
    """What is right in one city.

    Attributes:
        city: its name.
        positives: by the key of each query that counts, the keys of the right database images; in the order of
            postprocessed.csv.
        database: the keys that predictions may have.
        known: the keys of all queries of the city, those that do not count included.
    """

    city: str
    positives: dict[str, frozenset[str]]
    database: frozenset[str]
    known: frozenset[str]


@dataclass(frozen=True)
class Score:
    """Of one city and one type of queries.

    Attributes:
        name: of the city.
        hits: where each query's first right prediction is, from 0 (its number of predictions: nowhere), int64 [Q].
        precision: average precision of each query at each N, float64 [Q, len(VALUES)].
    """

    name: str
    hits: NDArray[np.int64]
    precision: NDArray[np.float64]


def read_truth(raw: Path, city: str, query_type: str = ALL, radius: float = 25.0) -> Truth:
    """Read what is right in a city from MSLS's metadata below `raw`. Raises UserError where it misses."""
    database, queries = (read_level(_folders(raw, city, level), query_type) for level in LEVELS)
    asked, known = np.flatnonzero(queries.usable), np.flatnonzero(database.usable)
    near = neighbours_within(queries.utm[asked], database.utm[known], radius)
    positives = {
        queries.keys[row]: frozenset(database.keys[known[i]] for i in near.indices[start:stop])
        for row, start, stop in zip(asked, near.indptr, near.indptr[1:], strict=False)
        if stop > start
    }
    return Truth(city, positives, _keys(database, known), frozenset(queries.keys))


def _keys(level: Level, rows: NDArray[np.int64]) -> frozenset[str]:
    return frozenset(level.keys[row] for row in rows)


def _folders(raw: Path, city: str, level: str) -> list[Path]:
    """Return where the files of a city may lie, those of the published ground truth first."""
    paths = (f"test_meta/{city}/{level}", f"test/{city}/{level}", f"train_val/{city}/{level}", f"{city}/{level}")
    above = [raw, *sorted(path for path in _below(raw, _DEPTH) if (path / "test_meta").is_dir())]
    found = [folder / path for folder in above for path in paths if (folder / path).is_dir()]
    if not any((folder / POSITIONS).is_file() for folder in found):
        raise UserError(
            f"--raw {raw}: test_meta/{city}/{level}/{POSITIONS} is not there. Expected the ground truth of the test "
            "cities, unpacked, as it is published with MSLS: https://www.mapillary.com/dataset/places"
        )
    return found


def _below(folder: Path, depth: int) -> list[Path]:
    try:
        here = [path for path in folder.iterdir() if path.is_dir() and path.name != "images"] if depth else []
    except OSError as error:
        raise UserError(f"--raw {folder}: cannot be read ({error.strerror}). Expected the folder of MSLS") from error
    return [*here, *(path for one in here for path in _below(one, depth - 1))]


def unanswered(ranked: Ranked, truth: Truth) -> list[str]:
    """Return the queries of a city that count and have no predictions."""
    return [query for query in truth.positives if query not in ranked]


def score(ranked: Ranked, truth: Truth) -> Score:
    """Compare the predictions of one city with what is right.

    Raises:
        UserError: queries without predictions, or none that counts.
    """
    lost = unanswered(ranked, truth)
    if lost:
        raise UserError(
            f"{truth.city}: no predictions for {len(lost)} of its {len(truth.positives)} queries, such as {lost[0]}. "
            "Expected all: add the file of this city, or leave the city out with --cities"
        )
    firsts, precision = [], []
    for query, right in truth.positives.items():
        kept = [key for key in ranked[query] if key in truth.database]
        hit = np.array([key in right and key not in kept[:i] for i, key in enumerate(kept)], np.bool_)
        firsts.append(int(hit.argmax()) if hit.any() else len(ranked[query]))
        precision.append(average_precision(hit, len(right)))
    return Score(truth.city, np.array(firsts, np.int64), np.array(precision).reshape(-1, len(VALUES)))


def average_precision(hit: NDArray[np.bool_], right: int) -> list[float]:
    """Return the average precision among the first N of VALUES.

    Args:
        hit: which of a query's predictions are right, best first, bool [K].
        right: how many database images are right.
    """
    at = np.cumsum(hit) / np.arange(1, len(hit) + 1) * hit
    return [float(at[:value].sum()) / min(right, value) for value in VALUES]


def score_table(scores: Sequence[Score], depth: int) -> str:
    """Return a markdown table: a row for each city, and one for all their queries together.

    Args:
        depth: how many predictions each query has; columns beyond are left out.
    """
    values = [value for value in VALUES if value <= depth] or [VALUES[0]]
    together = Score("all", np.concatenate([one.hits for one in scores]), np.concatenate([s.precision for s in scores]))
    rows = []
    for one in [*scores, together] if len(scores) > 1 else scores:
        count = len(one.hits)
        recalls = [100 * float((one.hits < value).mean()) if count else None for value in values]
        means = [100 * float(one.precision[:, VALUES.index(value)].mean()) if count else None for value in values]
        rows.append([one.name, count, *recalls, *means])
    headers = ["city", "queries", *(f"R@{value}" for value in values), *(f"mAP@{value}" for value in values)]
    return str(tabulate(rows, headers, tablefmt="github", floatfmt=".1f", missingval="-"))
