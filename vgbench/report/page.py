"""report.html: everything worth seeing about a run in one file that opens from disk, without a network or a script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

import vgbench
from vgbench.errors import UserError
from vgbench.report.chart import Series, line_chart
from vgbench.report.city_map import city_map
from vgbench.report.compression import compression_section
from vgbench.report.gallery import TOP, choose_queries, gallery
from vgbench.report.history import History, history_of
from vgbench.report.markdown import Results, dataset_label, main_threshold
from vgbench.report.outcome import Outcome, metres_text, outcome_of

if TYPE_CHECKING:
    from vgbench.data import Neighbours, Split
    from vgbench.retrieval.predictions import Predictions

_HERE = Path(__file__).parent
_PERCENT = (0, 20, 40, 60, 80, 100)


def write_report(
    path: Path,
    results: Results,
    split: Split,
    predictions: Predictions,
    neighbours: Neighbours,
    history: Iterable[Mapping[str, Any]] = (),
    *,
    max_queries: int = 60,
) -> Path:
    """Write the page, whole or not at all, and return its path.

    Args:
        path: the file to write.
        results: what results.json holds.
        split: the tables that the predictions' rows refer to.
        predictions: best K database rows of each query.
        neighbours: the positives within the threshold that counts (`markdown.main_threshold`).
        history: records of metrics.jsonl (`history.read_history`), where the run trained.
        max_queries: how many queries the gallery shows.

    Raises:
        UserError: the file cannot be written.
        ValueError: predictions and neighbours are of different numbers of queries.
    """
    outcome = outcome_of(split, predictions, neighbours)
    page = _page(results, split, predictions, outcome, history_of(history), max_queries)
    partial = path.with_name(path.name + ".partial")
    try:
        # File names that are no valid text arrive as lone surrogates, which UTF-8 cannot hold.
        partial.write_bytes(page.encode("utf-8", "replace"))
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}). Expected a writable folder") from error
    return path


def _page(
    results: Results, split: Split, predictions: Predictions, outcome: Outcome, history: History, max_queries: int
) -> str:
    rows = choose_queries(outcome, max_queries)
    shown_hits = int(outcome.hit[rows].sum())
    hits, total = int(outcome.hit.sum()), len(outcome.hit)
    threshold = f"{float(main_threshold(results)):g}"
    label = dataset_label(results)
    return Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{_network_name(results)} on {label}"),
        network=escape(_network_name(results)),
        dataset=escape(label),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        headline=_headline(results),
        threshold=threshold,
        recall_table=_recall_table(results),
        how_far=_how_far(outcome),
        recall_chart=_recall_chart(results, outcome),
        training=_training(history),
        map=city_map(split.database.utm, split.queries.utm, outcome.hit, title=f"Map of {total} queries, {hits} hits"),
        hits=f"{hits:,}",
        misses=f"{total - hits:,}",
        database=f"{len(split.database):,}",
        top=min(TOP, predictions.indices.shape[1]),
        shown=len(rows),
        shown_hits=shown_hits,
        shown_misses=len(rows) - shown_hits,
        queries=f"{total:,}",
        gallery=gallery(split, predictions, outcome, rows),
        compression=compression_section(results.get("compression") or {}),
        details=_details(results),
        version=escape(str(results.get("version", vgbench.__version__))),
    )


def _network_name(results: Results) -> str:
    network = results.get("network") or {}
    name = " + ".join(str(network[key]) for key in ("backbone", "aggregation") if network.get(key))
    return name or "network"


def _headline(results: Results) -> str:
    recalls = results["recalls"][main_threshold(results)]
    facts = [(f"R@{value}", f"{recalls[value]:.1f}<small>%</small>") for value in list(recalls)[:3]]
    counts = [("queries", "queries"), ("database", "database images"), ("descriptors_dim", "dimensions")]
    facts += [(label, f"{int(results[key]):,}") for key, label in counts if results.get(key) is not None]
    if results.get("images_per_second"):
        facts.append(("images a second", f"{results['images_per_second']:,.0f}"))
    if results.get("queries_without_positives"):
        facts.append(("queries without positives", f"{results['queries_without_positives']:,}"))
    return "".join(f"<div><dt>{escape(label)}</dt><dd>{number}</dd></div>" for label, number in facts)


def _recall_table(results: Results) -> str:
    values = list(dict.fromkeys(value for recalls in results["recalls"].values() for value in recalls))
    head = "".join(f'<th scope="col">R@{escape(str(value))}</th>' for value in values)
    body = ""
    for threshold, recalls in results["recalls"].items():
        cells = "".join(f"<td>{recalls[value]:.1f}</td>" if value in recalls else "<td></td>" for value in values)
        body += f'<tr><th scope="row">{float(threshold):g} m</th>{cells}</tr>'
    return (
        f'<table class="recalls"><thead><tr><th scope="col">within</th>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _how_far(outcome: Outcome) -> str:
    """Say where the best predictions lie, which no recall tells: near misses or another part of town."""
    if not outcome.metres.size:
        return ""
    half, most = np.percentile(outcome.metres[:, 0], [50, 90])
    return f"Half of the first predictions lie within {metres_text(half)} of the query, 90% within {metres_text(most)}."


def _recall_chart(results: Results, outcome: Outcome) -> str:
    curve = outcome.recall_curve()
    main = main_threshold(results)
    series = [Series(f"{float(main):g} m", range(1, len(curve) + 1), curve.tolist())]
    for threshold, recalls in results["recalls"].items():
        if threshold != main:
            known = sorted((int(value), float(percent)) for value, percent in recalls.items())
            series.append(Series(f"{float(threshold):g} m", [n for n, _ in known], [percent for _, percent in known]))
    return line_chart(series, title="Recall@N", x_label="N predictions", y_label="recall@N, %", y_ticks=_PERCENT)


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
    figures = "".join(f'<div class="panel">{chart}</div>' for chart in charts)
    return f'<section id="training"><h2>Training</h2><div class="pair">{figures}</div></section>'


def _details(results: Results) -> str:
    groups: Sequence[tuple[str, Mapping[str, Any]]] = [
        ("Network", results.get("network") or {}),
        ("Seconds a stage", results.get("seconds") or {}),
        ("Options", results.get("options") or {}),
    ]
    lists = ""
    for heading, values in groups:
        rows = "".join(
            f"<div><dt>{escape(str(key))}</dt><dd>{escape(_value_text(value))}</dd></div>"
            for key, value in values.items()
        )
        if rows:
            lists += f'<h3>{heading}</h3><dl class="options">{rows}</dl>'
    return lists


def _value_text(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
