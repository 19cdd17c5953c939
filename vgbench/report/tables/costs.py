"""What a run costs, out of its results: the columns of tables and pages beside the recalls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Results = Mapping[str, Any]


def _dimensions(one: Results) -> float | None:
    return float(one["descriptors_dim"]) if one.get("descriptors_dim") else None


def _query_ms(one: Results) -> float | None:
    seconds, queries = one.get("seconds"), one.get("queries")
    if not isinstance(seconds, Mapping) or not queries:
        return None
    parts = [seconds[name] for name in ("extract_queries", "search", "rerank") if name in seconds]
    return 1000 * sum(parts) / int(queries) if parts else None


def _train_minutes(one: Results) -> float | None:
    return float(one["train_seconds"]) / 60 if one.get("train_seconds") else None


def _bytes_per_image(one: Results) -> float | None:
    compressed = (one.get("compression") or {}).get("bytes_per_image")
    kept = sum(float(step.get("bytes_per_image", 0)) for step in one.get("rerank") or ())
    width = 2 if (one.get("options") or {}).get("descriptors_dtype") == "float16" else 4
    own = compressed if compressed is not None else one.get("descriptors_dim") and width * one["descriptors_dim"]
    return float(own) + kept if own else None


COSTS: dict[str, tuple[Callable[[Results], float | None], str]] = {
    "dim": (_dimensions, ".0f"),
    "ms per query": (_query_ms, ".1f"),
    "bytes per image": (_bytes_per_image, ",.0f"),
    "train min": (_train_minutes, ".1f"),
}
"""What a run costs: name -> (from results, how it is written)."""
