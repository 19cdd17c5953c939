"""The section of the page on what compression and approximate search lost, beside the bytes that they save."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from vgbench.retrieval.metrics import milliseconds_text


def compression_section(facts: Mapping[str, Any]) -> str:
    """Return HTML of what `retrieval.comparison.compare` found, '' where nothing was compressed or approximated."""
    if not facts:
        return ""
    saved = f"{facts['bytes_per_image']:,.0f} bytes an image instead of {facts['bytes_per_image_float32']:,.0f}"
    saved += f" in float32 ({facts['bytes_saved_percent']:.1f}% saved)"
    speed = f"{milliseconds_text(facts['ms_per_query'])} ms a query"
    if facts.get("ms_per_query_exact") is not None:
        speed += f", exact search {milliseconds_text(facts['ms_per_query_exact'])} ms"
    table = _table(facts) if facts.get("recalls") else ""
    return (
        f'<section id="compression"><h2>What compression costs</h2><p class="lead">{escape(str(facts["what"]))}: '
        f"{saved}; {speed}.</p>{table}</section>"
    )


def _table(facts: Mapping[str, Any]) -> str:
    values = list(facts["recalls"])
    head = "".join(f'<th scope="col">R@{escape(str(value))}</th>' for value in values)
    rows = (("as searched", "recalls", ""), ("exact, uncompressed", "recalls_exact", ""), ("lost", "recall_lost", "+"))
    body = ""
    for label, key, sign in rows:
        cells = "".join(f"<td>{facts[key][value]:{sign}.2f}</td>" for value in values)
        body += f'<tr><th scope="row">{label}</th>{cells}</tr>'
    note = f"On {facts['queries_compared']:,} queries, of which {facts['identical_top1_percent']:.1f}% have the same"
    return (
        f'<div class="panel scroll"><table class="recalls"><thead><tr><th scope="col">within {facts["threshold"]:g} m'
        f'</th>{head}</tr></thead><tbody>{body}</tbody></table><p class="note">{note} best match either way.</p></div>'
    )
