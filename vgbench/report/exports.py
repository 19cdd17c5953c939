"""Predictions for other programs: pairs of images, and a table of where photographs were taken."""

from __future__ import annotations

import csv
import io
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vgbench.data.utm import latitude_longitude, zones
from vgbench.errors import UserError
from vgbench.files import write_text

if TYPE_CHECKING:
    from vgbench.data import Split
    from vgbench.retrieval.metrics.findings import Findings
    from vgbench.retrieval.predictions import Predictions

LOG = logging.getLogger(__name__)

MATCHES = 5  # best matches of a photograph in predictions.csv


def write_pairs(path: Path, split: Split, predictions: Predictions, layout: str, count: int | None = None) -> int:
    """Write pairs of a query and a database image, best first, and return how many.

    The names are relative to the folder that holds both tables, such as `queries/x.jpg database/y.jpg`. `hloc`: a pair
    a line, parted by a space. `kapture`: a pairs file of its version 1.1, whose score is minus the distance.

    Args:
        layout: "hloc" or "kapture".
        count: predictions a query; None for all.

    Raises:
        UserError: there are fewer predictions than `count`, names with the separator in them, or a file that cannot
            be written.
    """
    check_names(path, split, layout)
    depth = predictions.indices.shape[1]
    if count is not None and count > depth:
        raise UserError(
            f"--pairs_num {count}: there are {depth} predictions a query. Expected at most as many; "
            f"search for more by --recall_values 1 5 {count}"
        )
    queries = [f"{split.queries.root.name}/{name}" for name in split.queries.relative_paths()]
    shown = predictions.indices[:, :count]
    database = {row: f"database/{split.database.relative_path(row)}" for row in np.unique(shown).tolist()}
    lines = [] if layout == "hloc" else ["# kapture format: 1.1", "# query_image, map_image, score"]
    for query, rows, distances in zip(queries, shown.tolist(), predictions.distances[:, :count].tolist(), strict=True):
        for row, distance in zip(rows, distances, strict=True):
            pair = f"{query}{' ' if layout == 'hloc' else ', '}{database[row]}"
            lines.append(pair if layout == "hloc" else f"{pair}, {-distance:.6g}")
    write_text(path, "".join(f"{line}\n" for line in lines))
    return shown.size


def check_names(path: Path, split: Split, layout: str) -> None:
    """Raise UserError where a file of pairs cannot hold the name of an image, since it parts names by what is in it."""
    separator = " " if layout == "hloc" else ","
    for table in (split.queries, split.database):
        odd = next((name for name in table.relative_paths() if separator in name or "\n" in name), None)
        if odd is not None:
            raise UserError(
                f"--pairs_out {path}: {f'{table.root.name}/{odd}'!r} has a {separator!r} in it, which parts names in "
                f"{layout} files. Expected names without; rename the file, or use the other --pairs_format"
            )


def write_positions(path: Path, split: Split, predictions: Predictions, findings: Findings) -> None:
    """Write predictions.csv: where each query was taken, how sure that is, and its best matches.

    Columns: `file`; `latitude`, `longitude` (degrees), `utm_east`, `utm_north` (metres) and `utm_zone` of the best
    match; the same, `weighted_`, of what the candidates agree on (`pose.predicted_poses`); `confidence`, 0 to 1; and
    `match_1`, `distance_1`, ... What is not known is empty.

    Raises:
        UserError: the file cannot be written.
    """
    count = min(MATCHES, predictions.indices.shape[1])
    zone = zones(split.database, predictions.indices[:, 0])
    poses = findings.poses
    degrees, weighted = (latitude_longitude(utm, zone) for utm in (poses.best, poses.weighted))
    position = ["latitude", "longitude", "utm_east", "utm_north"]
    header = ["file", *position, "utm_zone", *(f"weighted_{name}" for name in position), "confidence"]
    header += [f"{what}_{rank}" for rank in range(1, count + 1) for what in ("match", "distance")]
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(header)
    for row, name in enumerate(split.queries.relative_paths()):
        cells = [name, *_position(degrees[row], poses.best[row]), str(zone[row])]
        cells += [*_position(weighted[row], poses.weighted[row]), _number(findings.confidence[row], 4)]
        for index, distance in zip(predictions.indices[row, :count], predictions.distances[row, :count], strict=True):
            cells += [split.database.relative_path(int(index)), f"{distance:.6g}"]
        table.writerow(cells)
    write_text(path, buffer.getvalue())


def _position(degrees: NDArray[np.float64], utm: NDArray[np.float64]) -> list[str]:
    return [*(_number(value, 7) for value in degrees), *(_number(value, 2) for value in utm)]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""
