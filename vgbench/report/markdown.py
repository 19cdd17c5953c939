"""Markdown tables of results: a row a run, R@1 and R@5 a dataset, the best in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

Results = Mapping[str, Any]
USUAL_THRESHOLD = 25.0


def main_threshold(results: Results) -> str:
    """Return the key in `results["recalls"]` of the threshold that counts (metres): the first one evaluated."""
    return str(next(iter(results["recalls"])))


def dataset_label(results: Results) -> str:
    """Name what was tested: the dataset, then whatever is not the usual queries, split or threshold."""
    label = str(results["dataset"])
    queries = str(results.get("queries_folder", "queries"))
    if queries != "queries":
        label += " " + queries.removeprefix("queries_")
    if results.get("split", "test") != "test":
        label += f" {results['split']}"
    if not results["recalls"]:  # queries without coordinates
        return label
    threshold = main_threshold(results)
    return label if float(threshold) == USUAL_THRESHOLD else f"{label} ({float(threshold):g} m)"


def results_table(
    results: Sequence[Results],
    *,
    values: Sequence[int] = (1, 5),
    published: Sequence[Results] = (),
    failures: Mapping[str, str] | None = None,
    order: Sequence[str] = (),
) -> str:
    """Return a markdown table of results as the doors write them in results.json, plus a `name` each.

    Args:
        results: results of one name share a row, one column a dataset and value of N.
        values: the N of the R@N to show.
        published: rows of other people's numbers, same form; shown below ours in italics and only where one of the
            columns of ours has a number for them. The best of a column in bold is the best of ours.
        failures: name of a run -> why it, or part of it, has no result; listed below the table.
        order: names in the order wanted; others follow in the order met.
    """
    failures = failures or {}
    columns = list(dict.fromkeys(dataset_label(one) for one in results))
    names = list(dict.fromkeys([*order, *(str(one["name"]) for one in results), *failures]))
    cells: dict[tuple[str, str, int], float] = {}
    for one in [*results, *published]:
        recalls = one["recalls"][main_threshold(one)]
        for value in values:
            if str(value) in recalls:
                cells[str(one["name"]), dataset_label(one), value] = float(recalls[str(value)])
    best = {
        (column, value): max((cells[n, column, value] for n in names if (n, column, value) in cells), default=None)
        for column in columns
        for value in values
    }
    dims = {str(one["name"]): str(one.get("descriptors_dim") or "") for one in [*results, *published]}

    def row(name: str, ours: bool) -> list[str]:
        shown = []
        for column in columns:
            for value in values:
                number = cells.get((name, column, value))
                text = "" if number is None else f"{number:.1f}"
                is_best = ours and number is not None and f"{best[column, value]:.1f}" == text
                shown.append(f"**{text}**" if is_best else text)
        if ours and name in failures and not any(shown):
            shown[:1] = ["failed"]
        label = escape_cell(name)
        return [label if ours else f"_{label}_", dims.get(name, ""), *shown]

    rows = [row(name, True) for name in names]
    others = [row(name, False) for name in dict.fromkeys(str(one["name"]) for one in published)]
    rows += [one for one in others if any(one[2:])]
    headers = ["run", "dim", *(f"{escape_cell(column)} R@{value}" for column in columns for value in values)]
    align = ["left", *["right"] * (len(headers) - 1)]
    table = tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None)
    notes = "".join(f"\n- {escape_cell(name)}: {_code(reason)}" for name, reason in failures.items())
    return table + "\n" + (f"\nWithout a result:\n{notes}\n" if notes else "")


def recall_table(results: Results) -> str:
    """Return a markdown table of one run's recalls (percent): a row a threshold in metres, a column a N."""
    values = list(dict.fromkeys(value for recalls in results["recalls"].values() for value in recalls))
    rows = [
        [f"{float(threshold):g} m", *(f"{recalls[value]:.1f}" if value in recalls else "" for value in values)]
        for threshold, recalls in results["recalls"].items()
    ]
    headers = ["within", *(f"R@{value}" for value in values)]
    align = ["right"] * len(headers)
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
