"""The sections of the page beyond recall: re-ranking, compression, positions, trust, and which queries are hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vgbench.report.chart import Series, line_chart
from vgbench.report.outcome import metres_text
from vgbench.report.templates import as_html, section
from vgbench.retrieval.adaptive.stage import gate_line
from vgbench.retrieval.metrics.recall import milliseconds_text

PERCENT = (0, 20, 40, 60, 80, 100)
_NOTHING = Markup("")
_FIELDS = {
    "note": "Note",
    "month": "Month",
    "hour": "Hour",
    "heading_difference": "Heading, to the nearest positive",
    "nearest_database_image": "Nearest database image",
}


def rerank_section(steps: Sequence[Mapping[str, Any]], uncertainty: Mapping[str, Any]) -> Markup:
    """Return HTML of the chain of re-rankers as results.json holds it, '' where there was none or nobody can judge.

    Args:
        uncertainty: what results.json holds of the estimators and the gate.
    """
    if not steps or not steps[0].get("before"):
        return _NOTHING
    threshold, first = next(iter(steps[0]["before"].items()))
    rows = [["search alone", *(f"{value:.1f}" for value in first.values()), "", ""]]
    before = first
    for step in steps:
        after = next(iter(step["after"].values()))
        cells = [_changed(after[n], after[n] - before[n]) for n in first]
        costs = milliseconds_text(step["ms_per_query"]), f"{step['bytes_per_image']:,.0f}"
        rows.append([f"then {step['name']}", *cells, *costs])
        before = after
    headers = ["", *(f"R@{n}" for n in first), "ms per query", "bytes per image"]
    return section(
        "rerank",
        threshold=f"{float(threshold):g}",
        headers=headers,
        rows=rows,
        gate=gate_line(uncertainty["gate"]) if "gate" in uncertainty else "",
        chart=_by_share(uncertainty.get("by_share") or {}),
    )


def _by_share(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Markup:
    """Return R@1 against the share of queries that are re-ranked, the least sure first; '' where it is not known."""
    if not curves:
        return _NOTHING
    series = [Series(name, curve["share"], curve["recall_at_1"]) for name, curve in curves.items()]
    title = "R@1 where only the least sure queries are re-ranked"
    return as_html(line_chart(series, title=title, x_label="re-ranked, % of the queries", y_label="R@1, %"))


def position_section(results: Mapping[str, Any], threshold: float) -> Markup:
    """Return HTML of how far the predicted positions are off, '' where that is not known."""
    pose, curves = results.get("pose"), results.get("recall_by_distance")
    if not pose or not curves:
        return _NOTHING
    quantiles = list(pose["best"])
    names = {"best": "the best match", "weighted": f"where the best {pose['candidates']} agree"}
    series = [Series(f"R@{n}", curves["metres"], curves[n]) for n in list(curves)[1:5]]
    chart = line_chart(
        series, title="Recall against the threshold", x_label="threshold, m", y_label="recall, %", y_ticks=PERCENT,
        mark_x=(threshold, f"{threshold:g} m"),
    )  # fmt: skip
    return section(
        "positions",
        headers=["position of", *(f"{q}%" for q in quantiles)],
        rows=[[text, *(metres_text(pose[name][q]) for q in quantiles)] for name, text in names.items()],
        candidates=pose["candidates"],
        radius=f"{pose['radius_m']:g}",
        chart=as_html(chart),
    )


def trust_section(results: Mapping[str, Any]) -> Markup:
    """Return HTML of when to believe a match, '' where that is not known."""
    accept = results.get("accept")
    if not accept:
        return _NOTHING
    names = {"distance": "distance", "ratio": "ratio to the next place"}
    curves = [Series(text, accept[key]["recall"], accept[key]["precision"]) for key, text in names.items()]
    chart = line_chart(
        curves, title="Precision against recall", x_label="recall, %", y_label="precision, %", y_ticks=PERCENT
    )
    kept = ("recall_at_100_precision", "average_precision")
    known = {key: accept[key]["accept_below"] for key in names if accept[key]["accept_below"] is not None}
    return section(
        "trust",
        headers=["accepting by", "R@100P", "average precision"],
        rows=[[text, *(f"{accept[key][name]:.1f}" for name in kept)] for key, text in names.items()],
        chart=as_html(chart),
        limits=[f"a {key} of {limit:.4g}" for key, limit in known.items()],
        calibration=_calibration(results.get("confidence")),
        estimators=[
            [name, f"{one['auprc']:.1f}"]
            for name, one in (results.get("uncertainty") or {}).get("estimators", {}).items()
        ],
    )


def _calibration(confidence: Mapping[str, Any] | None) -> dict[str, str] | None:
    if not confidence:
        return None
    bins = confidence["bins"]
    said, was = [one["confidence"] for one in bins], [one["right"] for one in bins]
    chart = line_chart(
        [Series("matches", said, was), Series("ideal", [0, 100], [0, 100])],
        title="Calibration", x_label="confidence, %", y_label="right, %", y_ticks=PERCENT,
    )  # fmt: skip
    error = f"{confidence['expected_calibration_error']:.1f}"
    return {"chart": as_html(chart), "source": confidence["learned_from"], "error": error}


def breakdown_section(fields: Mapping[str, Sequence[Mapping[str, Any]]]) -> Markup:
    """Return HTML of R@1 by what the file names say, '' where they say nothing."""
    if not fields:
        return _NOTHING
    shown = {
        _FIELDS.get(name, name): [
            {"value": row["value"], "recall": f"{row['recall_at_1']:.1f}", "queries": f"{row['queries']:,}"}
            for row in rows
        ]
        for name, rows in fields.items()
    }
    return section("breakdown", fields=shown)


def compression_section(facts: Mapping[str, Any]) -> Markup:
    """Return HTML of what `retrieval.comparison.compare` found, '' where nothing was compressed or approximated."""
    if not facts:
        return _NOTHING
    costs = f"{facts['bytes_per_image']:,.0f} bytes per image instead of {facts['bytes_per_image_float32']:,.0f}"
    costs += f" in float32 ({facts['bytes_saved_percent']:.1f}% saved)"
    costs += f"; {milliseconds_text(facts['ms_per_query'])} ms per query"
    if facts.get("ms_per_query_exact") is not None:
        costs += f", exact search {milliseconds_text(facts['ms_per_query_exact'])} ms"
    if not facts.get("recalls"):
        return section("compression", what=facts["what"], costs=costs, headers=[], rows=[], note="")
    values = list(facts["recalls"])
    lines = (("as searched", "recalls", ""), ("exact, uncompressed", "recalls_exact", ""), ("lost", "recall_lost", "+"))
    note = f"On {facts['queries_compared']:,} queries, of which {facts['identical_top1_percent']:.1f}% have the same"
    return section(
        "compression",
        what=facts["what"],
        costs=costs,
        headers=[f"within {facts['threshold']:g} m", *(f"R@{value}" for value in values)],
        rows=[[label, *(f"{facts[key][value]:{sign}.2f}" for value in values)] for label, key, sign in lines],
        note=f"{note} best match either way.",
    )


def _changed(recall: float, points: float) -> Markup:
    if abs(points) < 0.05:
        return section("changed", recall=f"{recall:.1f}", points="±0.0", sign="same")
    return section("changed", recall=f"{recall:.1f}", points=f"{points:+.1f}", sign="up" if points > 0 else "down")
