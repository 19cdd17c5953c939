import csv
import io
import re
import unicodedata

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pylatexenc.latexwalker import (
    LatexCharsNode,
    LatexEnvironmentNode,
    LatexGroupNode,
    LatexMacroNode,
    LatexSpecialsNode,
    LatexWalker,
)

from vgbench.report.tables import build_table
from vgbench.report.tables.text import csv_text, latex_escape, latex_text

BASE = np.array([0, 0, -1, -1])


def results():
    def one(name, r1, **more):
        return {
            "name": name,
            "dataset": "tokyo_xs",
            "recalls": {"25": {"1": r1, "5": 90.0}},
            "descriptors_dim": 8,
            **more,
        }

    return [
        one("gem & 50%", 50.0, first_positive_ranks=BASE),
        one("netvlad", 70.0, first_positive_ranks=np.array([0, 0, 0, -1])),
        one("netvlad", 80.0, first_positive_ranks=np.array([0, 0, 0, -1])),
    ]


def test_csv_has_every_number():
    rows = list(csv.DictReader(io.StringIO(csv_text(build_table(results(), baseline="gem & 50%")))))
    assert [row["run"] for row in rows] == ["gem & 50%", "netvlad"]
    assert rows[1]["tokyo_xs R@1"] == "75.000" and rows[1]["tokyo_xs R@1 seeds"] == "2"
    assert float(rows[1]["tokyo_xs R@1 std"]) == round(50**0.5, 3)
    assert float(rows[1]["tokyo_xs R@1 difference"]) == 25.0 and rows[0]["tokyo_xs R@1 difference"] == ""


def test_no_cell_of_a_csv_begins_a_formula():
    table = build_table([{"name": "=1+1", "dataset": "x", "recalls": {"25": {"1": 1.0}}}])
    assert next(csv.DictReader(io.StringIO(csv_text(table))))["run"] == "'=1+1"


def test_latex_is_a_table_of_booktabs():
    text = latex_text(build_table(results()), "Recalls of 50% & more")
    lines = text.splitlines()
    assert r"\caption{Recalls of 50\% \& more}" in lines
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert lines.count(rule) == 1
    width = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert all(len(re.findall(r"(?<!\\)&", line)) == width - 1 and line.endswith(r"\\") for line in body)
    head = lines[lines.index(r"\toprule") + 1]
    spans = sum(int(span) for span in re.findall(r"\\multicolumn\{(\d+)\}", head))
    assert spans + len(re.findall(r"(?<!\\)&", head)) - head.count(r"\multicolumn") + 1 == width
    assert r"\textbf{75.0}" in body[1] and r"\underline{50.0}" in body[0] and r"$\pm$7.1" in body[1]


@given(st.text())
def test_latex_has_no_command_of_a_name(text):
    rest = re.sub(
        r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[&%$#_{}]|\{[]*[]?\}",
        "",
        latex_escape(text),
    )
    assert not set(rest) & set("\\&%$#_{}~^<>")


HOSTILE = st.text(st.one_of(st.sampled_from("_&%#~^\\$<>{}[]*'`-,?!\"@|é汉 \n\t\x00"), st.characters(codec="utf-8")))


def rows_of(text):
    """Return the number of columns that a table declares, and its rows of cells, as a parser of LaTeX sees them.

    A cell is (columns that it spans, its nodes).
    """
    nodes = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()[0]
    [table] = [node for node in nodes if isinstance(node, LatexEnvironmentNode)]
    [tabular] = [node for node in table.nodelist if isinstance(node, LatexEnvironmentNode)]
    assert (table.environmentname, tabular.environmentname) == ("table", "tabular")
    inside = list(tabular.nodelist)
    declared = inside.pop(0).latex_verbatim() if tabular.nodeargd.argnlist[-1] is None else ""
    declared = declared or tabular.nodeargd.argnlist[-1].latex_verbatim()
    rows, cells, skip = [], [[]], 0
    for number, node in enumerate(inside):
        if skip:
            skip -= 1
        elif isinstance(node, LatexMacroNode) and node.macroname == "\\":
            assert not any(node.nodeargd.argnlist), f"takes a row for its argument: {node.latex_verbatim()}"
            rows.append(cells)
            cells = [[]]
        elif isinstance(node, LatexMacroNode) and node.macroname in ("toprule", "midrule", "bottomrule"):
            assert not any(one.latex_verbatim().startswith("[") for one in inside[number + 1 : number + 2])
        elif isinstance(node, LatexMacroNode) and node.macroname == "cmidrule":
            # (lr){3-4}, which the parser knows nothing of.
            skip = 2
        elif isinstance(node, LatexSpecialsNode) and node.specials_chars == "&":
            cells.append([])
        else:
            cells[-1].append(node)
    assert not "".join(node.latex_verbatim() for node in cells[-1]).strip() and len(cells) == 1
    return len(declared.strip("{}")), rows


SIGNS = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">"}


def printed(node):
    """Return what a node of a name prints; anything but characters and their escapes is an error."""
    if isinstance(node, LatexCharsNode):
        return node.chars
    if isinstance(node, LatexGroupNode):
        return "".join(map(printed, node.nodelist))
    assert isinstance(node, LatexMacroNode), f"not a plain text: {node.latex_verbatim()}"
    return SIGNS.get(node.macroname) or {sign: sign for sign in "&%$#_{}"}[node.macroname] + node.macro_post_space


def span_of(cell):
    """Return how many columns a cell takes."""
    text = "".join(node.latex_verbatim() for node in cell).strip()
    found = re.match(r"\\multicolumn\{(\d+)\}", text)
    return int(found[1]) if found else 1


@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=3), HOSTILE, st.booleans())
def test_a_parser_of_latex_reads_every_name_as_it_is(named, caption, costs):
    """Balanced groups, as many columns in each row as are declared, and no name that becomes a command."""
    found = [
        {"name": name, "dataset": dataset, "recalls": {"25": {"1": 50.0, "5": 60.0}}, "descriptors_dim": 8}
        for name, dataset in named
    ]
    table = build_table(found, costs=("dim", "ms per query") if costs else (), failures={"a_b & %": "out of memory"})
    columns, rows = rows_of(latex_text(table, caption))
    assert all(sum(map(span_of, row)) == columns for row in rows) and len(rows) == 2 + len(table.rows)
    for row, shown in zip(table.rows, rows[2:], strict=True):
        text = "".join(map(printed, shown[0]))
        plain = "".join(one if unicodedata.category(one) != "Cc" else " " for one in row.name)
        assert text.split() == plain.split()
