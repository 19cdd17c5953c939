"""The map: queries coloured by hit or miss over the database, as inline SVG whose size does not grow with the data.

`Sheet`, `cells_of`, `dots` and `scale_bar` are of every map: `datasets_vg.citymap` draws with them too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from vgbench.report.chart import ticks
from vgbench.report.outcome import metres_text

WIDTH = 640.0
MIN_HEIGHT, MAX_HEIGHT = 110.0, 440.0
MARGIN = 22.0
# What falls into one cell of this size (in drawing units) is one mark; cells grow until this many marks are enough.
CELL = 2.5
MOST_DATABASE, MOST_QUERIES = 8000, 4000


@dataclass(frozen=True)
class Sheet:
    """Where metres lie on a drawing: in proportion, north up.

    Attributes:
        low: float64 [2], the least metres east and north that are drawn.
        scale: drawing units a metre.
        left, bottom: where `low` lies, in drawing units.
    """

    low: NDArray[np.float64]
    scale: float
    left: float
    bottom: float

    def at(self, utm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the places of metres east and north [N,2] on the drawing: float64 [N,2], x and y."""
        at: NDArray[np.float64] = (utm - self.low) * [self.scale, -self.scale] + [self.left, self.bottom]
        return at


def city_map(
    database_utm: NDArray[np.float64],
    queries_utm: NDArray[np.float64],
    hit: NDArray[np.bool_] | None,
    *,
    title: str,
    links: Mapping[int, str] | None = None,
) -> str:
    """Return one `<svg>`, north up: database as grey dots, hits as green discs, misses as red crosses.

    Queries too close to tell apart on the drawing are one mark; where some are hits, a pie of their shares.

    Args:
        database_utm: float64 [N,2], east and north in metres.
        queries_utm: float64 [Q,2], likewise.
        hit: bool [Q]; None where nobody knows, for queries as blue discs.
        title: what the map says, for screen readers.
        links: query row -> what its mark says; a click on it leads to the element `query-<row>` of the page.
    """
    everything = np.concatenate([database_utm, queries_utm])
    everything = everything[np.isfinite(everything).all(1)]
    if not len(everything):
        return f'<p class="empty">{escape(title)}: no coordinates</p>'
    low, extent = everything.min(0), np.ptp(everything, axis=0)
    inner_width, inner_height = WIDTH - 2 * MARGIN, MAX_HEIGHT - 2 * MARGIN
    # Units a metre: the largest that fits both ways (a street has no width and a single position has neither).
    scale = min(inner_width / max(extent[0], 1e-9), inner_height / max(extent[1], 1e-9), inner_width)
    height = float(np.clip(extent[1] * scale + 2 * MARGIN, MIN_HEIGHT, MAX_HEIGHT))
    width, tall = extent * scale
    sheet = Sheet(low, float(scale), (WIDTH - width) / 2, (height + tall) / 2)
    known = np.isfinite(queries_utm).all(1)
    spots, share = _spots(sheet.at(queries_utm[known]), None if hit is None else hit[known], MOST_QUERIES)
    grey, _ = _spots(sheet.at(database_utm[np.isfinite(database_utm).all(1)]), None, MOST_DATABASE)
    both = (share > 0) & (share < 1)
    return "".join(
        [
            f'<svg class="map" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">',
            f'<path class="map-database" d="{dots(grey)}"/>',
            f'<path class="map-{"query" if hit is None else "hit"}" d="{dots(spots[share == 1])}"/>',
            f'<path class="map-miss" d="{_crosses(spots[share == 0])}"/>',
            f'<path class="map-both" d="{dots(spots[both])}"/>',
            f'<path class="map-share" d="{_sectors(spots[both], share[both])}"/>',
            *_links(sheet.at(queries_utm), links or {}),
            scale_bar(sheet.scale, 12.0, height - 12.0, 200),
            "</svg>",
        ]
    )


def _links(at: NDArray[np.float64], links: Mapping[int, str]) -> list[str]:
    """Return a ring around each query that has something to say; equal positions are one, and lead to their first."""
    rings: dict[str, str] = {}
    for row, words in links.items():
        if np.isfinite(at[row]).all():
            x, y = at[row]
            ring = f'<circle class="map-link" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
            rings.setdefault(ring, f'<a href="#query-{row}"><title>{escape(words)}</title>{ring}</a>')
    return list(rings.values())


def _spots(
    at: NDArray[np.float64], hit: NDArray[np.bool_] | None, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Merge what falls into one cell: the first position in each, float64 [M,2], and its share of hits, float64 [M]."""
    cell = CELL
    while True:
        first, which = cells_of(at, cell)
        if len(first) <= most:
            break
        cell *= 1.5
    share = np.ones(len(first)) if hit is None else np.bincount(which, hit, len(first)) / np.bincount(which)
    return at[first], share


def cells_of(at: NDArray[np.float64], cell: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row in each cell of a grid, int64 [M], and which of these cells each row is in, int64 [N].

    Args:
        at: float64 [N,2], positions on a drawing.
        cell: the side of a cell, in drawing units.
    """
    cells = np.floor(at / cell).astype(np.int64)
    # A drawing has far fewer than 2**20 columns of cells, so a cell's two numbers fit in one.
    _, first, which = np.unique(cells[:, 0] * 2**20 + cells[:, 1], return_index=True, return_inverse=True)
    return first, which


def dots(at: NDArray[np.float64]) -> str:
    """Return the path of a round dot at each position on a drawing, float64 [N,2]."""
    # A stroke of no length with round caps is a disc, and the shortest way to write one.
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in at)


def _crosses(at: NDArray[np.float64], arm: float = 2.5) -> str:
    stroke = f"l{2 * arm:g} {2 * arm:g}m0 {-2 * arm:g}l{-2 * arm:g} {2 * arm:g}"
    return "".join(f"M{x - arm:.1f} {y - arm:.1f}{stroke}" for x, y in at)


def _sectors(at: NDArray[np.float64], share: NDArray[np.float64], radius: float = 3.5) -> str:
    """Draw slices of pie, clockwise from the top, over `share` of a full turn."""
    parts = []
    for (x, y), turn in zip(at.tolist(), share.tolist(), strict=True):
        dx, dy = radius * math.sin(2 * math.pi * turn), -radius * math.cos(2 * math.pi * turn)
        arc = f"A{radius:g} {radius:g} 0 {int(turn > 0.5)} 1 {x + dx:.1f} {y + dy:.1f}"
        parts.append(f"M{x:.1f} {y:.1f}v{-radius:g}{arc}Z")
    return "".join(parts)


def scale_bar(scale: float, x: float, y: float, longest: float) -> str:
    """Return a bar of a round length and its metres.

    Args:
        scale: drawing units a metre.
        x, y: of its left end, drawing units.
        longest: about the longest that it is, with its text, drawing units.
    """
    metres = next(tick for tick in ticks(0, longest / scale, 2) if tick > 0)
    length = metres * scale
    return (
        f'<path class="map-scale" d="M{x:.1f} {y - 4:.1f}v4h{length:.1f}v-4"/>'
        f'<text class="map-text" x="{x + length + 6:.1f}" y="{y:.1f}">{escape(metres_text(metres))}</text>'
    )
