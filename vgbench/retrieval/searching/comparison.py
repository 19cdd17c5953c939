"""What compression and approximate search lose: the same queries, searched exactly as they were extracted."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgbench.data.protocol import Split
from vgbench.retrieval.extraction.crops import Views
from vgbench.retrieval.extraction.store import Descriptors, InMemory
from vgbench.retrieval.metrics.recall import recalls
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.exact import ExactSearch
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Searched:
    """A search that is judged.

    Attributes:
        found: its predictions, [Q,K].
        dim: of the descriptors as extracted.
        bytes_per_image: of what was searched.
        ms_per_query: milliseconds that a query took.
    """

    found: Predictions
    dim: int
    bytes_per_image: float
    ms_per_query: float


def compare(
    original: tuple[Descriptors, Descriptors] | None,
    searched: Searched,
    split: Split,
    views: Views,
    options: EvalOptions,
    runtime: Runtime,
    threshold: float,
) -> dict[str, Any]:
    """Search up to `options.compare_queries` queries exactly as well, and return what differs, as JSON values.

    Args:
        original: the database's and the queries' descriptors as extracted; None where there are none to compare with.
        searched: what is judged.
        views: the queries' (a query may have several descriptors).
        threshold: metres within which a prediction is right.
    """
    found, bytes_per_image, full = searched.found, searched.bytes_per_image, 4.0 * searched.dim
    facts: dict[str, Any] = {
        "what": _what(options, bytes_per_image),
        "bytes_per_image": round(bytes_per_image, 1),
        "bytes_per_image_float32": full,
        "bytes_saved_percent": round(100 * (1 - bytes_per_image / full), 2),
        "ms_per_query": round(searched.ms_per_query, 3),
    }
    count = min(options.compare_queries, len(split.queries))
    if original is None:
        LOG.info("nothing to compare with: what float16 loses is reported once a run stored float32 descriptors here")
    if count == 0 or original is None:
        return facts
    database, queries = original
    rows = np.arange(count, dtype=np.int64) * len(split.queries) // count
    own = (rows[:, None] * views.described + np.arange(views.described)).reshape(-1)
    start = time.perf_counter()
    searcher = ExactSearch(database, options, options, runtime)
    exact = views.method.merge(searcher.search(InMemory.of(queries, own), found.indices.shape[1]))
    facts["ms_per_query_exact"] = round(1000 * (time.perf_counter() - start) / count, 3)
    facts |= _differences(found.indices[rows], exact.indices, split, rows, options, threshold)
    LOG.info("%s", _sentence(facts))
    return facts


def _differences(
    found: NDArray[np.int64],
    exact: NDArray[np.int64],
    split: Split,
    rows: NDArray[np.int64],
    options: EvalOptions,
    threshold: float,
) -> dict[str, Any]:
    near = split.truth.positives(split.queries, split.database, threshold).select(rows)
    values = options.recall_values
    of_found, of_exact = (recalls(indices, near, values) for indices in (found, exact))
    by_value = {"recalls": of_found, "recalls_exact": of_exact, "recall_lost": of_exact - of_found}
    return {
        "queries_compared": len(rows),
        "identical_top1_percent": round(100 * float(np.mean(found[:, 0] == exact[:, 0])), 3),
        "threshold": threshold,
        **{
            name: {str(n): round(float(percent), 3) for n, percent in zip(values, numbers, strict=True)}
            for name, numbers in by_value.items()
        },
    }


def _what(options: EvalOptions, bytes_per_image: float) -> str:
    parts = []
    if options.is_reduced:
        parts.append(f"PCA{'' if options.pca_dim is None else f' to {options.pca_dim}'}")
        parts[-1] += " whitened" if options.pca_whiten else ""
    if options.descriptors_dtype != "float32":
        parts.append(options.descriptors_dtype)
    if options.quantise != "none":
        parts.append(f"{options.quantise} codes of {bytes_per_image:g} bytes")
    if options.index != "exact":
        parts.append(options.index)
    return ", ".join(parts)


def _sentence(facts: Mapping[str, Any]) -> str:
    lost = ", ".join(f"R@{n} {points:+.2f}" for n, points in facts["recall_lost"].items())
    return (
        f"{facts['what']}: {facts['bytes_per_image']:g} bytes per image, not {facts['bytes_per_image_float32']:g}; "
        f"{facts['identical_top1_percent']:.1f}% of {facts['queries_compared']} queries have the same best match as "
        f"exact search, points lost: {lost}"
    )
