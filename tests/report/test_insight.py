"""The section on compression: every number that was found is there, and nothing where nothing was compressed."""

from __future__ import annotations

import re

from vgbench.report.insight import compression_section

FACTS = {
    "what": "PCA to 64 <whitened>, pq codes of 64 bytes",
    "bytes_per_image": 64.0,
    "bytes_per_image_float32": 5120.0,
    "bytes_saved_percent": 98.75,
    "ms_per_query": 0.123,
}
COMPARED = {
    **FACTS,
    "ms_per_query_exact": 1.5,
    "queries_compared": 1234,
    "identical_top1_percent": 57.2,
    "threshold": 25.0,
    "recalls": {"1": 72.4, "5": 95.4},
    "recalls_exact": {"1": 75.03, "5": 95.2},
    "recall_lost": {"1": 2.63, "5": -0.2},
}


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_what_was_lost_stands_beside_what_was_saved() -> None:
    page = compression_section(COMPARED)
    assert "64 bytes per image instead of 5,120 in float32 (98.8% saved)" in text(page)
    assert "0.123 ms per query, exact search 1.5 ms" in text(page)
    assert "lost +2.63 -0.20" in text(page)
    assert "1,234 queries, of which 57.2%" in text(page)
    assert "&lt;whitened&gt;" in page


def test_without_a_comparison_there_is_no_table() -> None:
    page = compression_section(FACTS)
    assert "98.8% saved" in page
    assert "<table" not in page


def test_nothing_compressed_nothing_said() -> None:
    assert compression_section({}) == ""
