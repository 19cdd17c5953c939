"""Other people's numbers, as rows for `markdown.results_table`."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from vgbench.errors import UserError
from vgbench.report.labels import dataset_label, main_threshold

FILE = Path(__file__).with_name("published.yaml")
# The values of N that a list in the file stands for, in its order.
VALUES = ("1", "5", "10")
_SPLITS = ("train", "val", "test", "challenge")


@functools.cache
def _groups() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return loaded


def published_models() -> list[str]:
    """Return the names of all models with published numbers."""
    return list(dict.fromkeys(model for group in _groups() for model in group["models"]))


def published_results(models: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Return published numbers in the form of results.json, one dict a (model, training set, test set).

    Args:
        models: which models; None for all.

    Raises:
        UserError: a model without published numbers.
    """
    unknown = sorted(set(models or ()) - set(published_models()))
    if unknown:
        known = ", ".join(sorted(published_models()))
        raise UserError(f"published: no numbers of {', '.join(unknown)}. Expected some of: {known}")
    return [
        _one(model, group, dataset, numbers)
        for group in _groups()
        for model, tested in group["models"].items()
        if models is None or model in models
        for dataset, numbers in tested.items()
    ]


def _one(model: str, group: Mapping[str, Any], dataset: str, numbers: float | list[float]) -> dict[str, Any]:
    recalls = dict(zip(VALUES, numbers if isinstance(numbers, list) else [numbers], strict=False))
    name, *rest = dataset.split(" ")
    split = next((word for word in rest if word in _SPLITS), "test")
    protocol = " ".join(rest[rest.index(word) :]) if (word := next((w for w in rest if w[0] == "±"), "")) else ""
    queries = next((word for word in rest if word not in _SPLITS and word not in protocol), "")
    return {
        "name": f"{model} on {group['trained_on']} [{group['source']}]",
        "dataset": name,
        "queries_folder": f"queries_{queries}" if queries else "queries",
        "split": split,
        "protocol": protocol,
        "recalls": {"25": recalls},
    }


def differences_table(results: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]]) -> str:
    """Return a markdown table of ours beside the published number, '' where no run of ours has one.

    A run is compared with the row whose model and training set are its name, such as `resnet18-gem on pitts30k`, on
    tests of the same label, so that two protocols never meet.

    Args:
        results: as the scripts write them in results.json, plus a `name` each.
        published: of `published_results`.
    """
    known = {(_plain(str(one["name"]).partition(" [")[0]), dataset_label(one)): one for one in published}
    rows = []
    for ours in results:
        theirs = known.get((_plain(str(ours["name"])), dataset_label(ours)))
        if theirs is None or not ours["recalls"]:
            continue
        mine, other = (one["recalls"][main_threshold(one)] for one in (ours, theirs))
        for value in (value for value in VALUES if value in mine and value in other):
            off = float(mine[value]) - float(other[value])
            cells = [f"{float(mine[value]):.1f}", f"{float(other[value]):.1f}", f"{off:+.1f}"]
            rows.append([str(ours["name"]), f"{dataset_label(ours)} R@{value}", *cells])
    headers = ["run", "test", "ours", "published", "difference"]
    align = ("left", "left", "right", "right", "right")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align) + "\n" if rows else ""


def _plain(name: str) -> str:
    """Return a name without what the name of a run cannot have."""
    return " ".join("".join(c if c.isalnum() or c in "._+=-" else " " for c in name).split())
