"""The table of a matrix, in all its forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgbench.benchmark.published import differences_table
from vgbench.benchmark.store import Store
from vgbench.files import write_text
from vgbench.report.labels import dataset_label
from vgbench.report.markdown import markdown_text
from vgbench.report.tables import build_table
from vgbench.report.tables.page import html_page
from vgbench.report.tables.text import csv_text, latex_text


@dataclass(frozen=True)
class TableOptions:
    """What the tables show.

    Attributes:
        values: the N of the R@N.
        costs: names out of `report.tables.build.COSTS`.
        baseline: the run that the others are compared with.
    """

    values: tuple[int, ...] = (1, 5)
    costs: tuple[str, ...] = ("dim",)
    baseline: str | None = None


def _results(store: Store, ranks: bool) -> list[dict[str, Any]]:
    """Return the results of all jobs; what a training tested at its end does not count beside an evaluation of it.

    Both have the same recalls, which would look like two seeds; the training's costs stay.
    """
    rows = [(job, one) for job in store.matrix.jobs for one in store.rows(job, ranks=ranks)]
    evaluated = {(job.run, dataset_label(one)) for job, one in rows if job.script == "eval"}
    return [
        {**one, "recalls": {}} if job.script == "train" and (job.run, dataset_label(one)) in evaluated else dict(one)
        for job, one in rows
    ]


def _by_row(store: Store, failures: Mapping[str, str]) -> dict[str, str]:
    """Return the reasons of failed runs by the row that each is a seed of."""
    rows = {job.run: job.row or job.run for job in store.matrix.jobs}
    found: dict[str, list[str]] = {}
    for run, reason in failures.items():
        row = rows.get(run, run)
        found.setdefault(row, []).append(reason if row == run else f"{run}: {reason}")
    return {row: "; ".join(reasons) for row, reasons in found.items()}


def write_tables(folder: Path, store: Store, options: TableOptions, failures: Mapping[str, str]) -> str:
    """Write table.md, table.tex, table.csv and table.html into a matrix's folder; return the markdown."""
    results = _results(store, ranks=options.baseline is not None)
    table = build_table(
        results, values=options.values, published=store.matrix.published, failures=_by_row(store, failures),
        order=store.matrix.rows if results else (), costs=options.costs, baseline=options.baseline,
    )  # fmt: skip
    text = markdown_text(table)
    beside = differences_table(results, store.matrix.published)
    text += f"\nOurs beside the published numbers:\n\n{beside}" if beside else ""
    name = store.matrix.name
    write_text(folder / "table.md", text)
    write_text(folder / "table.tex", latex_text(table, name))
    write_text(folder / "table.csv", csv_text(table))
    write_text(folder / "table.html", html_page(table, name))
    return text
