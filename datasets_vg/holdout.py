"""Hold-outs of a train split: a part of its region as the test, the others to train on, to choose by without looking at
the dataset's own test.

The region is halved again and again, each time the part with most queries along the direction in which its images
spread most, so that streets stay together; where the dataset has a val split, it comes along.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vgbench.data import ImageTable, read_split
from vgbench.data.layout import split_folder
from vgbench.errors import UserError

Rows = NDArray[np.int64]


def write_holdouts(root: Path, parts: int, buffer: float) -> str:
    """Write `<name>_holdout1`, ... beside the dataset, of links to its images; returns what was written, in words.

    In each, test is one part of the train split, and train the others without what lies within `buffer` metres of it.

    Args:
        root: a dataset in the folder protocol.
        parts: how many, at least two.
        buffer: metres.

    Raises:
        UserError: no train split; one of the folders is there already; a part without database or queries, or with all
            others within the buffer.
    """
    outputs = [root.with_name(f"{root.name}_holdout{number}") for number in range(1, parts + 1)]
    for output in outputs:
        if os.path.lexists(output):
            raise UserError(f"{output}: is there already. Expected a new folder; remove it to write it anew")
    split = read_split(root, "train")
    tables = {"database": split.database, "queries": split.queries}
    where = regions(split.database.utm, split.queries.utm, parts)
    held = {name: [np.flatnonzero(labels == part) for part in range(parts)] for name, labels in where.items()}
    plans = [_plan(f"{root.name}: part {part + 1} of {parts}", tables, held, part, buffer) for part in range(parts)]
    lines = []
    for plan, output in zip(plans, outputs, strict=True):
        _write(output, root, tables, plan)
        counts = (f"{kind} {len(rows['database'])} + {len(rows['queries'])}" for kind, rows in plan.items())
        lines.append(f"{output}: {', '.join(counts)} images of database + queries")
    return "\n".join(lines)


def _plan(
    where: str, tables: dict[str, ImageTable], held: dict[str, list[Rows]], part: int, buffer: float
) -> dict[str, dict[str, Rows]]:
    """Return the rows of train and test, of database and queries each, where one part is held out."""
    test = {name: rows[part] for name, rows in held.items()}
    near = cKDTree(np.concatenate([tables[name].utm[rows] for name, rows in test.items()]))
    train = {name: np.flatnonzero(near.query(table.utm)[0] > buffer) for name, table in tables.items()}
    plan = {"train": train, "test": test}
    for kind, rows in plan.items():
        empty = [name for name, found in rows.items() if not len(found)]
        if empty:
            raise UserError(
                f"{where} leaves {kind} without {' and '.join(empty)}. Expected some in each; lower --parts or --buffer"
            )
    return plan


def regions(database: NDArray[np.float64], queries: NDArray[np.float64], parts: int) -> dict[str, NDArray[np.int64]]:
    """Return the part, from 0, of each image of database and queries.

    Args:
        database: float64 [N,2], metres.
        queries: float64 [Q,2], metres.
        parts: how many.
    """
    positions = np.concatenate([database, queries])
    is_query = np.arange(len(positions)) >= len(database)
    labels = np.zeros(len(positions), np.int64)
    for new in range(1, parts):
        largest = int(np.bincount(labels[is_query], minlength=new).argmax())
        inside = np.flatnonzero(labels == largest)
        mine = positions[inside]
        axis = int(np.ptp(mine, axis=0).argmax())
        border = np.median(positions[(labels == largest) & is_query][:, axis])
        labels[inside[mine[:, axis] > border]] = new
    return {"database": labels[: len(database)], "queries": labels[len(database) :]}


def _write(output: Path, root: Path, tables: dict[str, ImageTable], splits: dict[str, dict[str, Rows]]) -> None:
    """Link to the images of some rows, whole or not at all."""
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for kind, parts in splits.items():
            for name, rows in parts.items():
                for row in rows.tolist():
                    link = split_folder(partial, kind) / name / tables[name].relative_path(row)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(tables[name].path(row).resolve())
        val = split_folder(root, "val")
        if val.is_dir():
            split_folder(partial, "val").symlink_to(val.resolve())
        partial.replace(output)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"{output}: cannot be written ({error.strerror}). Expected a folder to write links in"
        ) from error
