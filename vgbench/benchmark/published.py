"""Other people's numbers, as rows for `markdown.results_table`."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from vgbench.errors import UserError

FILE = Path(__file__).with_name("published.yaml")
# The values of N that a list in the file stands for, in its order.
VALUES = ("1", "5", "10")


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
    name, _, split = dataset.partition(" ")
    return {
        "name": f"{model} on {group['trained_on']} [{group['source']}]",
        "dataset": name,
        "split": split or "test",
        "recalls": {"25": recalls},
    }
