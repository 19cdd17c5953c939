"""What a table calls a test: its dataset and whatever is not the usual queries, split or threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vgbench.data.positives import within_text

Results = Mapping[str, Any]
USUAL_THRESHOLD = 25.0


def main_threshold(results: Results) -> str:
    """Return the key in `results["recalls"]` of the threshold that counts (metres): the first one evaluated."""
    return str(next(iter(results["recalls"])))


def within(results: Results, threshold: str) -> str:
    """Return how a threshold of `results["recalls"]` is written: "25 m", or what else says which images are right."""
    return within_text(float(threshold), str(results.get("protocol") or ""))


def dataset_label(results: Results) -> str:
    """Name what was tested: the dataset, then whatever is not the usual queries, split, truth or threshold.

    Two protocols have two labels, so that no table puts them into one column.
    """
    label = str(results["dataset"])
    queries = str(results.get("queries_folder", "queries"))
    if queries != "queries":
        label += " " + queries.removeprefix("queries_")
    if results.get("split", "test") != "test":
        label += f" {results['split']}"
    protocol = str(results.get("protocol") or "")
    label += f" {protocol}" if protocol else ""
    if not results["recalls"]:  # queries without coordinates
        return label
    threshold = main_threshold(results)
    if not within(results, threshold).endswith(" m"):
        return label
    return label if float(threshold) == USUAL_THRESHOLD else f"{label} ({float(threshold):g} m)"
