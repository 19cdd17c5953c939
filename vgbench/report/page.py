"""report.html: everything worth seeing about a run in one file that opens from disk, without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vgbench
from vgbench.data import Neighbours, Split
from vgbench.files import written_whole
from vgbench.models.network import name_of
from vgbench.models.sequences.options import over_frames
from vgbench.report.chart import Series, line_chart
from vgbench.report.city_map import city_map
from vgbench.report.gallery import TOP, Card, Evidence, choose_queries, gallery, spread
from vgbench.report.history import History, history_of
from vgbench.report.insight import (
    PERCENT,
    breakdown_section,
    compression_section,
    position_section,
    rerank_section,
    trust_section,
)
from vgbench.report.labels import Results, dataset_label, main_threshold, within
from vgbench.report.outcome import Outcome, metres_text, outcome_of
from vgbench.report.templates import as_html, read, render, section
from vgbench.retrieval.predictions import Predictions


def write_report(
    path: Path,
    results: Results,
    split: Split,
    predictions: Predictions,
    neighbours: Neighbours | None,
    *,
    max_queries: int = 60,
    evidence: Evidence | None = None,
) -> Path:
    """Write the page, whole or not at all, and return its path.

    Args:
        path: the file to write.
        results: what results.json holds.
        split: the tables that the predictions' rows refer to.
        predictions: best K database rows of each query.
        neighbours: the positives within the threshold that counts (`markdown.main_threshold`); None where the queries
            have no coordinates.
        max_queries: how many queries the gallery shows.
        evidence: what is known beside the predictions.

    Raises:
        UserError: the file cannot be written.
        ValueError: predictions and neighbours are of different numbers of queries.
    """
    outcome = None if neighbours is None else outcome_of(split, predictions, neighbours)
    evidence = evidence or Evidence()
    sections = (
        _unjudged(results, split, predictions, evidence, max_queries)
        if outcome is None
        else _judged(results, split, predictions, outcome, history_of(evidence.history), evidence, max_queries)
    )
    page = _page(results, [*sections, _details(results)])
    with written_whole(path) as partial:
        # File names that are no valid text arrive as lone surrogates, which UTF-8 cannot hold.
        partial.write_bytes(page.encode("utf-8", "replace"))
    return path


def gallery_rows(
    split: Split, predictions: Predictions, neighbours: Neighbours | None, max_queries: int
) -> NDArray[np.int64]:
    """Return the rows of the queries that the gallery shows, in its order, int64 [n]."""
    if neighbours is None:
        return spread(len(predictions), max_queries)
    return choose_queries(outcome_of(split, predictions, neighbours), max_queries)


def _page(results: Results, sections: Sequence[str]) -> str:
    script = read("page.js")
    return render(
        "page.html",
        network=_network_name(results),
        dataset=dataset_label(results),
        style=read("page.css"),
        script=script,
        # Only this very script may run: a file name that smuggles one in may not.
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        headline=_headline(results),
        sections=[as_html(one) for one in sections],
        version=str(results.get("version", vgbench.__version__)),
    )


def _judged(
    results: Results,
    split: Split,
    predictions: Predictions,
    outcome: Outcome,
    history: History,
    evidence: Evidence,
    max_queries: int,
) -> list[str]:
    """Return the sections of a page on queries whose coordinates are known."""
    threshold = float(main_threshold(results))
    rows = choose_queries(outcome, max_queries)
    lead = (
        f"{len(rows):,} of {len(outcome.hit):,} queries: the worst failures first, then hits spread over the set. "
        f"Green (✓) is right ({within(results, main_threshold(results))}), red (✗) is not; distances are on the "
        "ground, d is between descriptors. A click on a picture enlarges it beside its query."
    )
    hits = int(outcome.hit[rows].sum())
    buttons = [("all", "All", len(rows)), ("misses", "Misses", len(rows) - hits), ("hits", "Hits", hits)]
    cards = gallery(split, predictions, outcome, rows, evidence)
    return [
        _recall(results, outcome),
        rerank_section(results.get("rerank") or [], results.get("uncertainty") or {}),
        position_section(results, threshold),
        breakdown_section(results.get("breakdown") or {}),
        trust_section(results),
        compression_section(results.get("compression") or {}),
        _training(history),
        _map(split, outcome, cards),
        section(
            "gallery",
            heading=f"Queries and their best {_top(predictions)} predictions",
            lead=lead,
            buttons=[(name, text, f"{count:,}") for name, text, count in buttons],
            cards=cards,
        ),
    ]


def _unjudged(
    results: Results, split: Split, predictions: Predictions, evidence: Evidence, max_queries: int
) -> list[str]:
    """Return the sections of a page on photographs without coordinates."""
    rows = spread(len(predictions), max_queries)
    lead = (
        f"{len(rows):,} of {len(predictions):,} photographs. Nobody knows their coordinates, so nothing is marked "
        "right or wrong; d is the distance between descriptors. All positions are in predictions.csv. A click on a "
        "picture enlarges it beside its query."
    )
    if results.get("confidence"):
        lead += f" The confidence was learned from {results['confidence']['learned_from']}."
    cards = gallery(split, predictions, None, rows, evidence)
    heading = f"Photographs and their best {_top(predictions)} matches"
    shown = section("gallery", heading=heading, lead=lead, buttons=[], cards=cards)
    if evidence.positions is None:
        return [shown]
    drawing = city_map(
        split.database.utm, evidence.positions, None, title="Map of the predicted positions", links=_links(cards)
    )
    of_map = section(
        "map_of_predictions",
        photographs=f"{len(predictions):,}",
        database=f"{len(split.database):,}",
        linked=bool(cards),
        drawing=as_html(drawing),
    )
    return [of_map, shown]


def _top(predictions: Predictions) -> int:
    return min(TOP, int(predictions.indices.shape[1]))


def _recall(results: Results, outcome: Outcome) -> str:
    values = list(dict.fromkeys(value for recalls in results["recalls"].values() for value in recalls))
    rows = [
        (within(results, threshold), [f"{recalls[value]:.1f}" if value in recalls else "" for value in values])
        for threshold, recalls in results["recalls"].items()
    ]
    return section(
        "recall",
        threshold=within(results, main_threshold(results)),
        values=[str(value) for value in values],
        rows=rows,
        note=_how_far(outcome),
        chart=as_html(_recall_chart(results, outcome)),
    )


def _map(split: Split, outcome: Outcome, cards: Sequence[Card]) -> str:
    hits, total = int(outcome.hit.sum()), len(outcome.hit)
    title = f"Map of {total} queries, {hits} hits"
    drawing = city_map(split.database.utm, split.queries.utm, outcome.hit, title=title, links=_links(cards))
    return section(
        "map_of_queries",
        hits=f"{hits:,}",
        misses=f"{total - hits:,}",
        database=f"{len(split.database):,}",
        linked=bool(cards),
        drawing=as_html(drawing),
    )


def _links(cards: Sequence[Card]) -> dict[int, str]:
    """Return query row -> what its mark on the map says, for those that the gallery shows."""
    return {card.row: f"{card.verdict}: {card.name}" for card in cards}


def _network_name(results: Results) -> str:
    network = results.get("network") or {}
    if network.get("method"):
        return str(network["method"]) + over_frames(network)
    name = " + ".join(str(network[key]) for key in ("backbone", "aggregation") if network.get(key))
    return (name or "network") + over_frames(network)


def _headline(results: Results) -> list[tuple[str, str, str]]:
    """Return (what, number, unit) of each headline figure."""
    recalls = results["recalls"][main_threshold(results)] if results["recalls"] else {}
    facts = [(f"R@{value}", f"{recalls[value]:.1f}", "%") for value in list(recalls)[:3]]
    length = (results.get("sequences") or {}).get("length")
    images, unit = ("database images", "images") if length is None else (f"sequences of {length} frames", "sequences")
    counts = [
        ("queries", "photographs" if not recalls else "queries" if length is None else "query sequences"),
        ("database", images),
        ("descriptors_dim", "dimensions"),
    ]
    facts += [(label, f"{int(results[key]):,}", "") for key, label in counts if results.get(key) is not None]
    if results.get("images_per_second"):
        facts.append((f"{unit} per second", f"{results['images_per_second']:,.0f}", ""))
    if results.get("queries_without_positives"):
        facts.append(("queries without positives", f"{results['queries_without_positives']:,}", ""))
    return facts


def _how_far(outcome: Outcome) -> str:
    """Say where the best predictions lie, which no recall tells: near misses or another part of town."""
    if not outcome.metres.size or not np.isfinite(outcome.metres[:, 0]).all():
        return ""
    half, most = np.percentile(outcome.metres[:, 0], [50, 90])
    return f"Half of the first predictions lie within {metres_text(half)} of the query, 90% within {metres_text(most)}."


def _recall_chart(results: Results, outcome: Outcome) -> str:
    curve = outcome.recall_curve()
    main = main_threshold(results)
    series = [Series(within(results, main), range(1, len(curve) + 1), curve.tolist())]
    for threshold, recalls in results["recalls"].items():
        if threshold != main:
            known = sorted((int(value), float(percent)) for value, percent in recalls.items())
            series.append(Series(within(results, threshold), [n for n, _ in known], [percent for _, percent in known]))
    return line_chart(series, title="Recall@N", x_label="N predictions", y_label="recall@N, %", y_ticks=PERCENT)


def _training(history: History) -> str:
    """Return the section of training curves, '' for a run that did not train."""
    if not history:
        return ""
    best = history.best_epoch()
    mark = None if best is None else (best, "best")
    charts = []
    if history.loss:
        loss = Series("loss", list(history.loss), list(history.loss.values()))
        charts.append(line_chart([loss], title="Training loss", x_label="epoch", y_label="mean loss", mark_x=mark))
    if history.recalls:
        shown = list(history.recalls.items())[:4]
        curves = [Series(f"R@{value}", list(curve), list(curve.values())) for value, curve in shown]
        title = "Recall on the validation split"
        charts.append(line_chart(curves, title=title, x_label="epoch", y_label="val recall, %", mark_x=mark))
    return section("training", charts=[as_html(chart) for chart in charts])


def _details(results: Results) -> str:
    """Return the section of what was run: what was set, and the options at their defaults folded away."""
    options = results.get("options") or {}
    # Results from before this was written down show every option.
    changed = results.get("options_set", list(options))
    groups = [
        ("Network", results.get("network") or {}),
        ("Seconds of each stage", results.get("seconds") or {}),
        ("Options that were set", {name: value for name, value in options.items() if name in changed}),
    ]
    defaults = {name: value for name, value in options.items() if name not in changed}
    return section("details", groups=[(heading, _texts(of)) for heading, of in groups], defaults=_texts(defaults))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): _value_text(value) for name, value in _with_members(values).items()}


def _with_members(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same with a line for each member of a network of networks."""
    members = values.get("members") or []
    lines = {f"member {number}": _network_text(member) for number, member in enumerate(members, start=1)}
    return {name: value for name, value in values.items() if name != "members"} | lines


def _network_text(config: Mapping[str, Any]) -> str:
    """Describe a network in one line, with its members in brackets."""
    said = ("method", "backbone", "aggregation", "members")
    options = [f"{key} {_value_text(value)}" for key, value in config.items() if key not in said and value is not None]
    members = "; ".join(map(_network_text, config.get("members") or []))
    return ", ".join([name_of(config), *options]) + (f" (of {members})" if members else "")


def _value_text(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
