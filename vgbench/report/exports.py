"""Predictions for other programs: pairs of images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgbench.data import Split
from vgbench.data.name_fields import key_of
from vgbench.errors import UserError
from vgbench.files import write_text
from vgbench.retrieval.predictions import Predictions

LOG = logging.getLogger(__name__)

MSLS = "msls"


def write_pairs(path: Path, split: Split, predictions: Predictions, layout: str, count: int | None = None) -> int:
    """Write pairs of a query and a database image, best first, and return how many.

    The names are relative to the folder that holds both tables, such as `queries/x.jpg database/y.jpg`. `hloc`: a pair
    a line, parted by a space. `kapture`: a pairs file of its version 1.1, whose score is minus the distance. `msls`:
    the prediction file of the MSLS challenge, a line per query: its key and those of its predictions, parted by spaces.

    Args:
        layout: "hloc", "kapture" or "msls".
        count: predictions per query; None for all.

    Raises:
        UserError: there are fewer predictions than `count`, names with the separator in them, or a file that cannot
            be written.
    """
    if layout != MSLS:
        check_names(path, split, layout)
    depth = predictions.indices.shape[1]
    if count is not None and count > depth:
        raise UserError(
            f"--pairs_num {count}: there are {depth} predictions per query. Expected at most as many; "
            f"search for more by --recall_values 1 5 {count}"
        )
    if layout == MSLS:
        write_text(path, _msls_lines(split, predictions.indices[:, :count]))
        return predictions.indices[:, :count].size
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


def _msls_lines(split: Split, rows: NDArray[np.int64]) -> str:
    """Return the keys of queries and predictions, which `prepare msls` keeps in the field of the panorama's id."""
    known = {row: key_of(split.database.relative_path(row)) for row in np.unique(rows).tolist()}
    queries = map(key_of, split.queries.relative_paths())
    return "".join(
        " ".join([query, *(known[row] for row in own)]) + "\n"
        for query, own in zip(queries, rows.tolist(), strict=True)
    )


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
