"""The sections of the page beyond recall: re-ranking, compression, positions, trust, and which queries are hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vgbench.report.chart import Series, line_chart
from vgbench.report.outcome import metres_text
from vgbench.retrieval.metrics.recall import milliseconds_text

PERCENT = (0, 20, 40, 60, 80, 100)
_FIELDS = {
    "note": "Note",
    "month": "Month",
    "hour": "Hour",
    "heading_difference": "Heading, to the nearest positive",
    "nearest_database_image": "Nearest database image",
}


def rerank_section(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return HTML of the chain of re-rankers as results.json holds it, '' where there was none or nobody can judge."""
    if not steps or not steps[0].get("before"):
        return ""
    first = next(iter(steps[0]["before"].values()))
    values = list(first)
    rows = [["search alone", *(f"{first[n]:.1f}" for n in values), "", ""]]
    before = first
    for step in steps:
        after = next(iter(step["after"].values()))
        cells = [f"{after[n]:.1f}{_change(after[n] - before[n])}" for n in values]
        rows.append([f"then {escape(step['name'])}", *cells, *_costs(step)])
        before = after
    headers = ["", *(f"R@{escape(n)}" for n in values), "ms per query", "bytes per image"]
    threshold = float(next(iter(steps[0]["before"])))
    return (
        '<section id="rerank"><h2>Re-ranking</h2><p class="lead">Recall within '
        f"{threshold:g}&nbsp;m after each step, and what the step changed, in points.</p>"
        f'<div class="panel scroll">{table(headers, rows)}</div></section>'
    )


def position_section(results: Mapping[str, Any], threshold: float) -> str:
    """Return HTML of how far the predicted positions are off, '' where that is not known."""
    pose, curves = results.get("pose"), results.get("recall_by_distance")
    if not pose or not curves:
        return ""
    quantiles = list(pose["best"])
    names = {"best": "the best match", "weighted": f"where the best {pose['candidates']} agree"}
    rows = [[text, *(metres_text(pose[name][q]) for q in quantiles)] for name, text in names.items()]
    series = [Series(f"R@{n}", curves["metres"], curves[n]) for n in list(curves)[1:5]]
    chart = line_chart(
        series, title="Recall against the threshold", x_label="threshold, m", y_label="recall, %", y_ticks=PERCENT,
        mark_x=(threshold, f"{threshold:g} m"),
    )  # fmt: skip
    note = (
        f"The second row averages those of the best {pose['candidates']} that lie within {pose['radius_m']:g} m of "
        "each other, the more similar the more."
    )
    return (
        '<section id="positions"><h2>How far off</h2><p class="lead">Distance on the ground from the predicted to the '
        'true position: so many percent of the queries are closer than that.</p><div class="pair"><div class="panel '
        f'scroll">{table(["position of", *(f"{q}%" for q in quantiles)], rows)}<p class="note">{note}</p></div>'
        f'<div class="panel">{chart}</div></div></section>'
    )


def trust_section(results: Mapping[str, Any]) -> str:
    """Return HTML of when to believe a match, '' where that is not known."""
    accept = results.get("accept")
    if not accept:
        return ""
    names = {"distance": "distance", "ratio": "ratio to the next place"}
    curves = [Series(text, accept[key]["recall"], accept[key]["precision"]) for key, text in names.items()]
    precision = line_chart(
        curves, title="Precision against recall", x_label="recall, %", y_label="precision, %", y_ticks=PERCENT
    )
    rows = [
        [
            text,
            f"{accept[key]['recall_at_100_precision']:.1f}",
            f"{accept[key]['average_precision']:.1f}",
        ]
        for key, text in names.items()
    ]
    scores = table(["accepting by", "R@100P", "average precision"], rows)
    limits = [
        f"a {key} of {accept[key]['accept_below']:.4g}" for key in names if accept[key]["accept_below"] is not None
    ]
    note = f'<p class="note">There is no mistake up to {" or ".join(limits)}.</p>' if limits else ""
    return (
        '<section id="trust"><h2>When to believe it</h2><p class="lead">Who refuses matches that are not sure answers '
        "fewer queries and is right more often. R@100P is the share answered before the first mistake.</p>"
        f'<div class="pair"><div class="panel scroll">{scores}{precision}{note}</div>'
        f"{_calibration(results)}</div></section>"
    )


def breakdown_section(fields: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return HTML of R@1 by what the file names say, '' where they say nothing."""
    if not fields:
        return ""
    panels = "".join(
        f'<div class="panel"><h3>{escape(_FIELDS.get(name, name))}</h3>{_bars(rows)}</div>'
        for name, rows in fields.items()
    )
    return (
        '<section id="breakdown"><h2>Which queries are hard</h2><p class="lead">R@1 by what the file names say of the '
        f'queries, and how many queries that is.</p><div class="breakdown">{panels}</div></section>'
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table of cells that are HTML already; the first column names the row."""
    head = "".join(f'<th scope="col">{text}</th>' for text in headers)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return f'<table class="recalls"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _calibration(results: Mapping[str, Any]) -> str:
    confidence = results.get("confidence")
    if not confidence:
        return ""
    bins = confidence["bins"]
    said, was = [one["confidence"] for one in bins], [one["right"] for one in bins]
    chart = line_chart(
        [Series("matches", said, was), Series("ideal", [0, 100], [0, 100])],
        title="Calibration", x_label="confidence, %", y_label="right, %", y_ticks=PERCENT,
    )  # fmt: skip
    note = (
        f"Confidence that the best match is right, learned from {escape(confidence['learned_from'])}. Expected "
        f"calibration error {confidence['expected_calibration_error']:.1f} points."
    )
    return f'<div class="panel">{chart}<p class="note">{note}</p></div>'


def _bars(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(str(row["value"]))}</th><td class="bar">'
        f'<i style="width:{row["recall_at_1"]:.1f}%"></i></td>'
        f"<td>{row['recall_at_1']:.1f}</td><td>{row['queries']:,}</td></tr>"
        for row in rows
    )
    head = '<tr><th></th><th></th><th scope="col">R@1</th><th scope="col">queries</th></tr>'
    return f'<table class="bars"><thead>{head}</thead><tbody>{lines}</tbody></table>'


def _change(points: float) -> str:
    if abs(points) < 0.05:
        return ' <small class="same">±0.0</small>'
    return f' <small class="{"up" if points > 0 else "down"}">{points:+.1f}</small>'


def _costs(step: Mapping[str, Any]) -> list[str]:
    return [milliseconds_text(step["ms_per_query"]), f"{step['bytes_per_image']:,.0f}"]


def compression_section(facts: Mapping[str, Any]) -> str:
    """Return HTML of what `retrieval.comparison.compare` found, '' where nothing was compressed or approximated."""
    if not facts:
        return ""
    saved = f"{facts['bytes_per_image']:,.0f} bytes per image instead of {facts['bytes_per_image_float32']:,.0f}"
    saved += f" in float32 ({facts['bytes_saved_percent']:.1f}% saved)"
    speed = f"{milliseconds_text(facts['ms_per_query'])} ms per query"
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
