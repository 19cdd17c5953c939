"""Line charts as inline SVG: pure functions from numbers to text.

Colours are CSS variables with fallbacks, so that a page's light and dark themes reach into the drawing and a chart
saved alone still shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 34, 40
COLOURS = tuple(
    f"var(--series-{number}, {fallback})"
    for number, fallback in enumerate(("#1f6feb", "#b45309", "#0f766e", "#9333ea", "#64748b"), start=1)
)


@dataclass(frozen=True)
class Series:
    """One line of a chart: points (x, y) in order of x, drawn with a marker each where they are few."""

    label: str
    x: Sequence[float]
    y: Sequence[float]

    def finite(self) -> list[tuple[float, float]]:
        return [(a, b) for a, b in zip(self.x, self.y, strict=True) if math.isfinite(a) and math.isfinite(b)]


def ticks(low: float, high: float, about: int = 5, *, whole: bool = False) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) from just below `low` to just above `high`."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 5) if raw <= factor * power * 1.001), 10 * power)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_ticks: Sequence[float] | None = None,
    mark_x: tuple[float, str] | None = None,
) -> str:
    """Return one `<svg>` with a line a series, a legend and axes.

    Args:
        series: what to draw; points that are not finite are left out.
        title: what the chart says, for screen readers.
        x_label: name of the x axis, whose ticks are whole numbers (N, epochs).
        y_label: name of the y axis, with its unit.
        y_ticks: the y axis's ticks, its ends included; chosen from the data where None.
        mark_x: a position on the x axis to mark with a dotted line and a word.
    """
    drawn = [(one, one.finite()) for one in series]
    points = [point for _, some in drawn for point in some]
    if not points:
        return f'<p class="empty">{escape(title)}: no data</p>'
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if y_ticks is None:
        y_ticks = ticks(min(ys), max(ys))
    low_x, high_x = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 1, max(xs) + 1)
    x_ticks = [tick for tick in ticks(low_x, high_x, 6, whole=True) if low_x <= tick <= high_x]

    def place_x(x: float) -> float:
        return LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)

    def place_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts += [_grid_line(place_y(tick), number_text(tick)) for tick in y_ticks]
    parts += [_x_tick(place_x(tick), number_text(tick)) for tick in x_ticks]
    parts += _axis_names(x_label, y_label)
    for number, (one, some) in enumerate(drawn):
        at = [(place_x(x), place_y(y)) for x, y in some]
        parts.append(_line(one.label, some, at, COLOURS[number % len(COLOURS)]))
    if mark_x is not None and low_x <= mark_x[0] <= high_x:
        parts.append(_mark(place_x(mark_x[0]), mark_x[1]))
    parts.append(_legend([one.label for one in series]))
    return "".join([*parts, "</svg>"])


def number_text(value: float) -> str:
    """Write a number shortly: at most four digits, no trailing zeros."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _grid_line(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
    )


def _x_tick(x: float, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(text)}</text>'


def _axis_names(x_label: str, y_label: str) -> list[str]:
    return [
        f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>',
        f'<text class="axis" x="4" y="14">{escape(y_label)}</text>',
    ]


def _mark(x: float, text: str) -> str:
    # The word stays inside the drawing whichever side of the chart the mark is on.
    anchor, shift = ("end", -5) if x > WIDTH / 2 else ("start", 5)
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="mark-name" x="{x + shift:.1f}" y="{HEIGHT - BOTTOM - 6}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _line(label: str, values: Sequence[tuple[float, float]], at: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    line = f'<polyline class="line" points="{path}" style="stroke:{colour}"/>' if len(at) > 1 else ""
    if len(at) > 60:
        return line
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{colour}">'
        f"<title>{escape(label)}: {number_text(b)} at {number_text(a)}</title></circle>"
        for (x, y), (a, b) in zip(at, values, strict=True)
    )
    return line + dots


def _legend(labels: Sequence[str]) -> str:
    """Write the names at the right end of the top line, each behind a dash of its colour."""
    # One text with coloured dashes needs no guess at how wide the reader's font is.
    names = "".join(
        f'<tspan dx="{10 if number else 0}" style="fill:{COLOURS[number % len(COLOURS)]}">\u2501</tspan>'
        f'<tspan dx="4">{escape(label)}</tspan>'
        for number, label in enumerate(labels)
    )
    return f'<text class="legend" x="{WIDTH - RIGHT}" y="14" text-anchor="end">{names}</text>'
