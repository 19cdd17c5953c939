"""A map of a dataset: database and queries of every split as one self-contained SVG, north up."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_vg.splits import SplitFolders, find_splits
from vgbench.data import read_folder
from vgbench.errors import UserError
from vgbench.report.city_map import cells_of, dots

WIDTH, HEIGHT, MARGIN, LEGEND = 1000.0, 800.0, 30.0, 24.0
PANELS = 4
"""Cities in a row."""
COLOURS = {"train": ("#9ecae1", "#08519c"), "val": ("#a1d99b", "#006d2c"), "test": ("#fdae6b", "#a63603")}
"""Database and queries of each split."""
_CELL = 1.5
"""What falls into one cell of this many drawing units is one dot, so that the file stays small."""

Points = NDArray[np.float64]


def write_map(root: Path, output: Path) -> Path:
    """Draw the dataset at `root` into the SVG file `output`; returns `output`.

    Raises:
        UserError: no dataset there, or the file cannot be written.
    """
    splits = find_splits(root)
    cities = [(city, table.utm) for split in splits if split.cities for city, table, _ in split.by_city()]
    if cities:
        text = city_panels(root.name, cities)
    else:
        text = svg(root.name, [layer for split in splits for layer in _layers(split)])
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot be written ({error.strerror}). Expected a file name in a folder that exists"
        ) from error
    return output


def _layers(split: SplitFolders) -> list[tuple[str, str, float, Points]]:
    """Return (label, colour, dot size, UTM) of each folder, database first."""
    pale, strong = COLOURS[split.name]
    layers = []
    for folder in split.all:
        is_queries = folder in split.queries
        label = split.label(folder)
        layers.append((label, strong if is_queries else pale, 2.2 if is_queries else 3.6, read_folder(folder).utm))
    return layers


def svg(title: str, layers: list[tuple[str, str, float, Points]]) -> str:
    """Return the drawing of (label, colour, dot size, UTM float64 [n,2]) layers in their order, with a legend."""
    everything = np.concatenate([utm for *_, utm in layers])
    low, extent = everything.min(0), np.maximum(np.ptp(everything, axis=0), 1.0)
    scale = float(min((WIDTH - 2 * MARGIN) / extent[0], (HEIGHT - 2 * MARGIN) / extent[1]))
    height = extent[1] * scale + 2 * MARGIN
    total = height + LEGEND * (len(layers) + 1) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {total:.0f}"',
        ' font-family="sans-serif" font-size="15">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH:.0f}" height="{total:.0f}" fill="white"/>',
    ]
    for row, (label, colour, size, utm) in enumerate(layers):
        at = (utm - low) * scale + MARGIN
        at[:, 1] = height - at[:, 1]
        parts.append(
            f'<path d="{dots(_thin(at))}" stroke="{colour}" stroke-width="{size}" stroke-linecap="round" fill="none"/>'
        )
        y = height + LEGEND * (row + 1)
        parts.append(f'<circle cx="{MARGIN}" cy="{y - 5:.1f}" r="6" fill="{colour}"/>')
        parts.append(f'<text x="{MARGIN + 14}" y="{y:.1f}">{escape(label)}: {len(utm)} images</text>')
    parts.append(_scale_bar(scale, height + LEGEND))
    return "\n".join([*parts, "</svg>\n"])


def city_panels(title: str, cities: list[tuple[str, Points]]) -> str:
    """Return a drawing with a panel for each city (name, UTM float64 [n,2]), each at its own scale: they lie apart."""
    side = (WIDTH - MARGIN) / PANELS - MARGIN
    row = side + 2 * LEGEND + MARGIN
    total = MARGIN + row * -(-len(cities) // PANELS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {total:.0f}"',
        ' font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH:.0f}" height="{total:.0f}" fill="white"/>',
    ]
    for number, (city, utm) in enumerate(cities):
        x, y = MARGIN + (side + MARGIN) * (number % PANELS), MARGIN + row * (number // PANELS)
        extent = max(float(np.ptp(utm, axis=0).max()), 1.0)
        at = (utm - utm.min(0)) / extent * side
        at[:, 1] = side - at[:, 1]
        path = dots(_thin(at + np.array([x, y])))
        parts += [
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none" stroke="#ddd"/>',
            f'<path d="{path}" stroke="{COLOURS["train"][1]}" stroke-width="2" stroke-linecap="round" fill="none"/>',
            f'<text x="{x:.1f}" y="{y + side + LEGEND:.1f}">{escape(city)}: {len(utm)} images, '
            f"{extent / 1000:.1f} km</text>",
        ]
    return "\n".join([*parts, "</svg>\n"])


def _thin(at: Points) -> Points:
    thinned: Points = at[np.sort(cells_of(at, _CELL)[0])]
    return thinned


def _scale_bar(scale: float, y: float) -> str:
    metres = 10 ** np.floor(np.log10(300 / scale))
    metres = next(metres * step for step in (5, 2, 1) if metres * step * scale <= 300)
    label = f"{metres:g} m" if metres < 1000 else f"{metres / 1000:g} km"
    x, length = WIDTH - MARGIN - 300, metres * scale
    bar = f'<path d="M{x:.1f} {y - 9:.1f}v5h{length:.1f}v-5" stroke="black" fill="none"/>'
    return bar + f'<text x="{x + length + 8:.1f}" y="{y:.1f}">{label}</text>'
