"""From the results of runs to a table: seeds averaged, the best and the second found, differences to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError, did_you_mean
from vgbench.report.labels import dataset_label, main_threshold
from vgbench.report.tables.costs import COSTS, Results
from vgbench.report.tables.table import Cell, Column, Row, Table
from vgbench.retrieval.metrics.bootstrap import paired_difference
from vgbench.retrieval.predictions import RANKS


def build_table(
    results: Sequence[Results],
    *,
    values: Sequence[int] = (1, 5),
    published: Sequence[Results] = (),
    failures: Mapping[str, str] | None = None,
    order: Sequence[str] = (),
    costs: Sequence[str] = ("dim",),
    baseline: str | None = None,
) -> Table:
    """Return the table of results as the scripts write them in results.json, plus a `name` each.

    Args:
        results: those of one name share a row; several of one name and dataset are seeds of one run. For differences
            each has `first_positive_ranks`, int32 [Q].
        values: the N of the R@N to show.
        published: other people's numbers, same form; only where one of the columns of ours has a number for them.
        failures: name of a run -> why it, or part of it, has no result.
        order: names in the order wanted; others follow in the order met.
        costs: names out of COSTS.
        baseline: the run that the others are compared with.

    Raises:
        UserError: no run is named as the baseline.
    """
    failures = dict(failures or {})
    names = list(dict.fromkeys([*order, *(str(one["name"]) for one in results), *failures]))
    columns = tuple(
        Column(label, value) for label in dict.fromkeys(dataset_label(one) for one in results) for value in values
    )
    if baseline is not None and baseline not in names:
        raise UserError(f"baseline {baseline}: no run has this name.{did_you_mean(baseline, names)} "
                        f"Expected one of {', '.join(names)}")  # fmt: skip
    rows = [_row(name, [one for one in results if one["name"] == name], columns, costs, failures) for name in names]
    rows = _compared(_placed(rows, columns), results, columns, baseline)
    theirs = list(dict.fromkeys(str(one["name"]) for one in published))
    others = [_row(name, [one for one in published if one["name"] == name], columns, costs, {}) for name in theirs]
    rows += [replace(row, ours=False) for row in others if row.cells]
    return Table(columns, tuple(costs), tuple(rows), failures, baseline or "")


def _row(
    name: str, results: Sequence[Results], columns: Sequence[Column], costs: Sequence[str], failures: Mapping[str, str]
) -> Row:
    cells = {}
    for column in columns:
        found = [
            float(recalls[str(column.value)])
            for one in results
            if dataset_label(one) == column.dataset
            and one["recalls"]
            and str(column.value) in (recalls := one["recalls"][main_threshold(one)])
        ]
        if found:
            cells[column] = Cell(mean(found), stdev(found) if len(found) > 1 else None, len(found))
    return Row(name, cells, tuple(_cost(cost, results) for cost in costs), failed=name in failures and not cells)


def _cost(name: str, results: Sequence[Results]) -> str:
    measure, form = COSTS[name]
    found = [cost for one in results if (cost := measure(one)) is not None]
    return format(mean(found), form) if found else ""


def _placed(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """Mark the best and the second of each column among ours."""
    cells = [dict(row.cells) for row in rows]
    for column in columns:
        best = sorted({float(one[column].text) for one in cells if column in one}, reverse=True)[:2]
        for one in cells:
            if column in one and float(one[column].text) in best:
                one[column] = replace(one[column], place=1 + best.index(float(one[column].text)))
    return [replace(row, cells=one) for row, one in zip(rows, cells, strict=True)]


def _compared(
    rows: Sequence[Row], results: Sequence[Results], columns: Sequence[Column], baseline: str | None
) -> list[Row]:
    if baseline is None:
        return list(rows)
    ranks = {(name, label): _ranks(name, label, results) for name, label in
             {(str(one["name"]), dataset_label(one)) for one in results}}  # fmt: skip

    def compared(row: Row) -> Row:
        cells = dict(row.cells)
        for column in columns:
            own, reference = ranks.get((row.name, column.dataset)), ranks.get((baseline, column.dataset))
            if column in cells and own is not None and reference is not None and row.name != baseline:
                difference = paired_difference(own, reference, column.value)
                cells[column] = replace(cells[column], difference=difference)
        return replace(row, cells=cells)

    return [compared(row) for row in rows]


def _ranks(name: str, label: str, results: Sequence[Results]) -> NDArray[np.int32] | None:
    """Return int32 [seeds,Q] of one run on one dataset; None where a seed's are unknown or of other queries."""
    found = [one.get(RANKS) for one in results if one["name"] == name and dataset_label(one) == label]
    known = [np.asarray(one, np.int32) for one in found if one is not None]
    same = len({len(one) for one in known}) == 1
    return np.stack(known) if len(known) == len(found) and same else None
