"""Markdown tables of results: a row per run, R@1 and R@5 a dataset, the best in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from vgbench.report.labels import Results, dataset_label, within
from vgbench.report.tables.build import build_table
from vgbench.report.tables.table import Cell, Row, Table
from vgbench.report.tables.text import notes_of


def results_table(
    results: Sequence[Results],
    *,
    values: Sequence[int] = (1, 5),
    published: Sequence[Results] = (),
    failures: Mapping[str, str] | None = None,
    order: Sequence[str] = (),
) -> str:
    """Return a markdown table of results as the scripts write them in results.json, plus a `name` each.

    Args:
        as of `build_table`.
    """
    return markdown_text(build_table(results, values=values, published=published, failures=failures, order=order))


def markdown_text(table: Table) -> str:
    """Return a table as markdown: the best of a column in bold, others' numbers in italics, failures below."""
    headers = ["run", *table.costs, *(f"{escape_cell(one.dataset)} R@{one.value}" for one in table.columns)]
    rows = [_row(row, table) for row in table.rows]
    align = ["left", *["right"] * (len(headers) - 1)]
    text = tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None) + "\n"
    text += "".join(f"\n{escape_cell(note)}\n" for note in notes_of(table))
    notes = "".join(f"\n- {escape_cell(name)}: {_code(reason)}" for name, reason in table.failures.items())
    return text + (f"\nWithout a result:\n{notes}\n" if notes else "")


def _row(row: Row, table: Table) -> list[str]:
    cells = [_cell(row.cells.get(column)) for column in table.columns]
    if row.failed:
        cells[:1] = ["failed"]
    # A failed run of a table without a column still has its cells below the headers that there are.
    cells = cells[: len(table.columns)] if table.columns else []
    label = escape_cell(row.name)
    return [label if row.ours else f"_{label}_", *row.costs, *cells]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = f"**{cell.text}**" if cell.place == 1 else cell.text
    text += f" ± {cell.std:.1f}" if cell.std is not None else ""
    if cell.difference is not None:
        found = cell.difference
        text += f" ({found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}])"
    return text


def recall_table(results: Results) -> str:
    """Return a markdown table of one run's recalls (percent): a row per threshold in metres, a column per N."""
    values = list(dict.fromkeys(value for recalls in results["recalls"].values() for value in recalls))
    rows = [
        [within(results, threshold), *(f"{recalls[value]:.1f}" if value in recalls else "" for value in values)]
        for threshold, recalls in results["recalls"].items()
    ]
    headers = ["within", *(f"R@{value}" for value in values)]
    align = ["right"] * len(headers)
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None) + "\n"


def query_sets_table(sets: Sequence[Results]) -> str:
    """Return a markdown table of one network on several sets of queries (percent): a row per set and threshold."""
    values = list(dict.fromkeys(value for one in sets for recalls in one["recalls"].values() for value in recalls))
    rows = [
        [escape_cell(dataset_label(one)), f"{one['queries']:,}", within(one, threshold)]
        + [f"{recalls[value]:.1f}" if value in recalls else "" for value in values]
        for one in sets
        for threshold, recalls in one["recalls"].items()
    ]
    headers = ["tested on", "queries", "within", *(f"R@{value}" for value in values)]
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None) + "\n"


def _code(text: str) -> str:
    """Write a message word for word, as markdown's code: paths in it are full of characters that mean emphasis."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def escape_cell(text: str) -> str:
    """Make text safe inside a markdown table cell: one line, no cell borders, no emphasis by accident."""
    one_line = " ".join(text.split())
    for character in "\\|*`<":
        one_line = one_line.replace(character, "\\" + character)
    return one_line
