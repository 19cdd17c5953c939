"""The page: sortable and filterable, opened from disk."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup

from vgbench.errors import UserError
from vgbench.files import write_text
from vgbench.report.leaderboard.entries import Entry, read_entries
from vgbench.report.leaderboard.plots import PLOTTED, plot, save_plots
from vgbench.report.tables.costs import COSTS
from vgbench.report.templates import render

FILE = "leaderboard.html"
PLOTS = "leaderboard"


def write_leaderboard(folder: Path) -> Path:
    """Write the page of every result below a folder of runs, and its drawings; return the page's path.

    Raises:
        UserError: there is no result.
    """
    entries = read_entries(folder) if folder.is_dir() else []
    if not entries:
        raise UserError(f"{folder}: no results. Expected the runs of train.py, eval.py or benchmark.py below it")
    values = sorted({value for one in entries for value in one.recalls})
    costs = [name for name in COSTS if any(name in one.costs for one in entries)]
    page = render(
        "leaderboard/page.html",
        columns=["network", "dataset", *(f"R@{value}" for value in values), *costs, "date", "run"],
        rows=[_row(one, values, costs) for one in entries],
        datasets=[_dataset(folder, name, entries) for name in dict.fromkeys(one.dataset for one in entries)],
    )
    write_text(folder / FILE, page)
    return folder / FILE


def _row(one: Entry, values: list[int], costs: list[str]) -> dict[str, object]:
    def cell(value: float | None, form: str) -> dict[str, object]:
        # What is unknown sorts last.
        return {"sort": -1 if value is None else value, "text": "" if value is None else format(value, form)}

    return {
        "entry": one,
        "recalls": [cell(one.recalls.get(value), ".1f") for value in values],
        "costs": [cell(one.costs.get(name), COSTS[name][1]) for name in costs],
    }


def _dataset(folder: Path, name: str, entries: list[Entry]) -> dict[str, object]:
    some = [one for one in entries if one.dataset == name]
    drawings = []
    for cost in PLOTTED:
        found = plot(some, cost)
        if found:
            stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{name} {cost}").strip("-")
            save_plots(found, folder / PLOTS / stem)
            svg = found["svg"].decode()
            files = {kind: f"{PLOTS}/{stem}.{kind}" for kind in found}
            drawings.append({"svg": Markup(svg[svg.index("<svg") :]), "files": files, "cost": cost})
    return {"name": name, "drawings": drawings, "count": len(some)}
