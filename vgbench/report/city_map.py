"""The map: queries coloured by hit or miss over the database, as inline SVG whose size does not grow with the data."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from vgbench.report.chart import ticks
from vgbench.report.outcome import metres_text

WIDTH = 900.0
MIN_HEIGHT, MAX_HEIGHT = 140.0, 620.0
MARGIN = 26.0
# Dots finer than this (in drawing units) are one dot: bounds the file to some thousands of dots for any dataset.
DATABASE_CELL, QUERY_CELL = 5.0, 3.0


def city_map(
    database_utm: NDArray[np.float64], queries_utm: NDArray[np.float64], hit: NDArray[np.bool_], *, title: str
) -> str:
    """Return one `<svg>`, north up: database as grey dots, hits as green discs, misses as red crosses on top.

    Args:
        database_utm: float64 [N,2], east and north in metres.
        queries_utm: float64 [Q,2], likewise.
        hit: bool [Q].
        title: what the map says, for screen readers.
    """
    everything = np.concatenate([database_utm, queries_utm])
    everything = everything[np.isfinite(everything).all(1)]
    if not len(everything):
        return f'<p class="empty">{escape(title)}: no coordinates</p>'
    low, extent = everything.min(0), np.ptp(everything, axis=0)
    inner_width, inner_height = WIDTH - 2 * MARGIN, MAX_HEIGHT - 2 * MARGIN
    # Units a metre: the largest that fits both ways (a street has no width and a single place has neither).
    scale = min(inner_width / max(extent[0], 1e-9), inner_height / max(extent[1], 1e-9), inner_width)
    height = float(np.clip(extent[1] * scale + 2 * MARGIN, MIN_HEIGHT, MAX_HEIGHT))
    shift = (np.array([WIDTH, height]) - extent * scale) / 2

    def place(utm: NDArray[np.float64], cell: float) -> NDArray[np.float64]:
        at = (utm[np.isfinite(utm).all(1)] - low) * scale + shift
        at[:, 1] = height - at[:, 1]
        cells = np.floor(at / cell).astype(np.int64)
        _, first = np.unique(cells, axis=0, return_index=True)
        return at[np.sort(first)]

    misses, hits = place(queries_utm[~hit], QUERY_CELL), place(queries_utm[hit], QUERY_CELL)
    return "".join(
        [
            f'<svg class="map" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">',
            f'<path class="map-database" d="{_dots(place(database_utm, DATABASE_CELL))}"/>',
            f'<path class="map-hit" d="{_dots(hits)}"/>',
            f'<path class="map-miss" d="{_crosses(misses)}"/>',
            _scale_bar(scale, height),
            "</svg>",
        ]
    )


def _dots(at: NDArray[np.float64]) -> str:
    # A stroke of no length with round caps is a disc, and the shortest way to write one.
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in at)


def _crosses(at: NDArray[np.float64], arm: float = 3.2) -> str:
    stroke = f"l{2 * arm:g} {2 * arm:g}m0 {-2 * arm:g}l{-2 * arm:g} {2 * arm:g}"
    return "".join(f"M{x - arm:.1f} {y - arm:.1f}{stroke}" for x, y in at)


def _scale_bar(scale: float, height: float) -> str:
    metres = next(tick for tick in ticks(0, 200 / scale, 2) if tick > 0)
    x, y, length = 12.0, height - 12.0, metres * scale
    return (
        f'<path class="map-scale" d="M{x:.1f} {y - 6:.1f}v6h{length:.1f}v-6"/>'
        f'<text class="map-text" x="{x + length + 8:.1f}" y="{y:.1f}">{escape(metres_text(metres))}</text>'
    )
