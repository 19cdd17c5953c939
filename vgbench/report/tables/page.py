"""A table as a part of an HTML page."""

from __future__ import annotations

from html import escape

from vgbench.report.tables.table import Cell, Row, Table
from vgbench.report.tables.text import notes_of


def html_table(table: Table) -> str:
    """Return the table as HTML: datasets as column groups, the best bold, the second underlined."""
    costs = "".join(f'<th scope="col" rowspan="2">{escape(cost)}</th>' for cost in table.costs)
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(columns)}">{escape(name)}</th>' for name, columns in table.groups
    )
    values = "".join(f'<th scope="col">R@{column.value}</th>' for column in table.columns)
    body = "".join(_row(row, table) for row in table.rows)
    notes = " ".join(notes_of(table))
    failures = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in table.failures.items())
    return (
        '<table class="results"><thead><tr><th scope="col" rowspan="2">run</th>'
        f"{costs}{groups}</tr><tr>{values}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<p>{escape(notes)}</p>" if notes else "")
        + (f"<p>Without a result:</p><ul>{failures}</ul>" if failures else "")
    )


def _row(row: Row, table: Table) -> str:
    cells = [_cell(row.cells.get(column)) for column in table.columns]
    if row.failed:
        cells[:1] = ["<td><em>failed</em></td>"]
    name = escape(row.name) if row.ours else f"<em>{escape(row.name)}</em>"
    costs = "".join(f"<td>{escape(cost)}</td>" for cost in row.costs)
    return f'<tr><th scope="row">{name}</th>{costs}{"".join(cells)}</tr>'


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    text = {1: f"<b>{cell.text}</b>", 2: f"<u>{cell.text}</u>"}.get(cell.place, cell.text)
    text += f" <small>&plusmn; {cell.std:.1f}</small>" if cell.std is not None else ""
    if cell.difference is not None:
        found = cell.difference
        text += f" <small>({found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}])</small>"
    return f"<td>{text}</td>"
