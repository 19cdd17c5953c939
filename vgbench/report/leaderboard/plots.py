"""Recall against a cost, as drawings that fit into a paper: SVG and PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from vgbench.files import written_whole
from vgbench.report.leaderboard.entries import Entry

PLOTTED = {"bytes per image": "bytes per image", "ms per query": "ms per query"}
_MARKERS = "osD^vPX*<>h8"
_LABELLED = 12


def plot(entries: Sequence[Entry], cost: str, value: int = 1) -> dict[str, bytes]:
    """Return "svg" and "pdf" of R@`value` against a cost on a logarithmic axis; {} where fewer than two have both.

    Args:
        entries: of one dataset.
        cost: a name out of COSTS.
    """
    known = [one for one in entries if one.costs.get(cost, 0) > 0 and value in one.recalls]
    if len(known) < 2:
        return {}
    import matplotlib as mpl  # half a second, and only this page needs it
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    networks = list(dict.fromkeys(one.network for one in known))
    with mpl.rc_context({"svg.hashsalt": "vgbench", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for number, network in enumerate(networks):
            some = [one for one in known if one.network == network]
            axes.scatter(
                [one.costs[cost] for one in some], [one.recalls[value] for one in some], s=26,
                marker=_MARKERS[number % len(_MARKERS)], label=network if number < _LABELLED else None,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:,.4g}" if cost < 1e4 else f"{cost:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(PLOTTED.get(cost, cost))
        axes.set_ylabel(f"R@{value}, %")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return {kind: _saved(figure, kind) for kind in ("svg", "pdf")}


def _saved(figure: object, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else {"CreationDate": None})  # type: ignore[attr-defined]
    return out.getvalue()


def save_plots(drawings: dict[str, bytes], stem: Path) -> None:
    """Write drawings as `<stem>.svg` and `<stem>.pdf`; raises UserError where they cannot be written."""
    for kind, content in drawings.items():
        with written_whole(stem.with_name(f"{stem.name}.{kind}")) as partial:
            partial.write_bytes(content)
