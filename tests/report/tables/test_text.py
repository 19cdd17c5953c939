import csv
import io
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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
        r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[&%$#_{}]", "", latex_escape(text)
    )
    assert not set(rest) & set("\\&%$#_{}~^<>")
