"""A table as an HTML page: datasets as column groups, the best bold, the second underlined."""

from __future__ import annotations

from vgbench.report.tables.table import Table
from vgbench.report.tables.text import notes_of
from vgbench.report.templates import render


def html_page(table: Table, name: str) -> str:
    """Return the table as a page that is called `name`."""
    return render("tables/page.html", table=table, name=name, notes=" ".join(notes_of(table)))
