"""A table as CSV and as LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

from vgbench.report.tables.table import Cell, Column, Row, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    # A row that begins with one of these would be an argument of the \\ before it.
    "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip
# Pairs that a font draws as one sign.
_LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=`)(?=`)|(?<=')(?=')|(?<=,)(?=,)|(?<=[?!])(?=`)")
# What a spreadsheet takes for a formula. Names of the folder protocol, @0500000.00@..., are none: a number between two
# @ is no expression, and programs look these names up as they are.
_FORMULA = re.compile(r"[=+\-\t\r\n]|@(?![+-]?\d+(\.\d*)?@)", re.ASCII)


def csv_text(table: Table) -> str:
    """Return the table as CSV: a row per run; mean, deviation and seeds of each column, then the difference."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = ["run", "source", *table.costs]
    for column in table.columns:
        name = f"{column.dataset} R@{column.value}"
        header += [name, f"{name} std", f"{name} seeds"]
        header += [f"{name} difference", f"{name} low", f"{name} high"] if table.baseline else []
    writer.writerow(header)
    for row in table.rows:
        cells = [text for column in table.columns for text in _csv_cells(row.cells.get(column), bool(table.baseline))]
        writer.writerow([plain_cell(row.name), "ours" if row.ours else "published", *row.costs, *cells])
    return out.getvalue()


def plain_cell(text: str) -> str:
    """Make a text that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _csv_cells(cell: Cell | None, compared: bool) -> list[str]:
    if cell is None:
        return [""] * (6 if compared else 3)
    texts = [f"{cell.mean:.3f}", "" if cell.std is None else f"{cell.std:.3f}", str(cell.seeds)]
    if compared:
        found = cell.difference
        texts += ["", "", ""] if found is None else [f"{v:.3f}" for v in (found.mean, found.low, found.high)]
    return texts


def latex_text(table: Table, caption: str = "") -> str:
    r"""Return the table for a paper: needs \usepackage{booktabs}; the best bold, the second underlined."""
    groups, costs = table.groups, len(table.costs)
    lines = [r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{latex_escape(caption)}}}"] if caption else []
    lines.append(rf"\begin{{tabular}}{{l{'r' * costs}{'c' * len(table.columns)}}}")
    lines.append(r"\toprule")
    heads = "".join(rf" & \multicolumn{{{len(columns)}}}{{c}}{{{latex_escape(name)}}}" for name, columns in groups)
    lines.append("&" * costs + heads.removeprefix(" ") + r" \\" if costs else heads.removeprefix(" ") + r" \\")
    start = 2 + costs
    for _, columns in groups:
        lines.append(rf"\cmidrule(lr){{{start}-{start + len(columns) - 1}}}")
        start += len(columns)
    names = ["run", *table.costs, *(f"R@{column.value}" for column in table.columns)]
    lines += [" & ".join(map(latex_escape, names)) + r" \\", r"\midrule"]
    previous = True
    for row in table.rows:
        if previous and not row.ours and row is not table.rows[0]:
            lines.append(r"\midrule")
        previous = row.ours
        lines.append(_latex_row(row, table.columns))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *_latex_note(table), r"\end{table}"]) + "\n"


def latex_escape(text: str) -> str:
    """Make text safe inside LaTeX."""
    printable = "".join(character if unicodedata.category(character) != "Cc" else " " for character in text)
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(printable.split()))
    return _LIGATURES.sub("{}", escaped)


def _latex_row(row: Row, columns: tuple[Column, ...]) -> str:
    name = latex_escape(row.name)
    cells = [_latex_cell(row.cells.get(column)) for column in columns]
    if row.failed:
        cells[:1] = [r"\textit{failed}"]
    name = name if row.ours else rf"\textit{{{name}}}"
    return " & ".join([name, *map(latex_escape, row.costs), *cells]) + r" \\"


def _latex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    wrapped = {1: rf"\textbf{{{cell.text}}}", 2: rf"\underline{{{cell.text}}}"}.get(cell.place, cell.text)
    if cell.std is not None:
        wrapped += rf" {{\scriptsize$\pm${cell.std:.1f}}}"
    if cell.difference is not None:
        found = cell.difference
        wrapped += rf" {{\scriptsize({found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}])}}"
    return wrapped


def _latex_note(table: Table) -> list[str]:
    notes = notes_of(table)
    return [rf"\par\smallskip{{\footnotesize {latex_escape(' '.join(notes))}}}"] if notes else []


def notes_of(table: Table) -> list[str]:
    """Return sentences on what the numbers are: seeds, and what they are compared with."""
    seeds = sorted({cell.seeds for row in table.rows for cell in row.cells.values() if cell.std is not None})
    notes = []
    if seeds:
        counts = " or ".join(map(str, seeds))
        notes.append(f"Mean and standard deviation over {counts} seeds.")
    if table.baseline:
        notes.append(f"Differences to {table.baseline} with 95% intervals of a paired bootstrap over queries.")
    return notes
