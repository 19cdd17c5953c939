"""One table of results, in the forms that papers and people want: markdown, LaTeX, CSV and HTML."""

from vgbench.report.tables.build import build_table
from vgbench.report.tables.table import Cell, Column, Row, Table

__all__ = ["Cell", "Column", "Row", "Table", "build_table"]
