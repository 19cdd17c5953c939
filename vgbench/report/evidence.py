"""Why a match was made: heat maps over the photographs, and the matches that a re-ranker verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vgbench.report.picture import PAPER, read_thumbnail

# Black, violet, red, orange, yellow: as dark as unimportant.
_ANCHORS = np.array([[0, 0, 20], [84, 16, 109], [187, 55, 84], [249, 142, 8], [252, 255, 164]], np.float64)
_LINES = 60


def heat_picture(path: Path, heat: NDArray[np.uint8], box: tuple[int, int]) -> Image.Image:
    """Lay a heat map over a photograph: bright where it counts, dark where it does not.

    Args:
        heat: uint8 [h,w].
        box: width and height that the photograph fits into, pixels.
    """
    photo = read_thumbnail(path, box)
    levels = Image.fromarray(heat).resize(photo.size, Image.Resampling.BICUBIC)
    value = np.asarray(levels, np.float64)[..., None] / 255
    steps = np.linspace(0, 1, len(_ANCHORS))
    colour = np.concatenate([np.interp(value, steps, _ANCHORS[:, channel]) for channel in range(3)], axis=2)
    gray = np.asarray(photo.convert("L"), np.float64)[..., None]
    mixed = gray * (0.3 + 0.2 * value) + colour * (0.1 + 0.6 * value)
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def match_picture(
    query: Path, match: Path, points: NDArray[np.float32], box: tuple[int, int], gap: int = 8
) -> Image.Image:
    """Set a query and its match side by side and join what agrees, of many matches an even selection.

    Args:
        points: float32 [m,4], as `LocalMatches.of` gives them.
        box: width and height that each photograph fits into, pixels.
    """
    left, right = read_thumbnail(query, box), read_thumbnail(match, box)
    both = Image.new("RGB", (left.width + gap + right.width, max(left.height, right.height)), PAPER)
    both.paste(left, (0, 0))
    both.paste(right, (left.width + gap, 0))
    draw = ImageDraw.Draw(both)
    shown = points[np.unique(np.linspace(0, len(points) - 1, min(len(points), _LINES)).round().astype(np.int64))]
    scale = np.array([left.width, left.height, right.width, right.height])
    for number, (x, y, u, v) in enumerate((shown * scale).tolist()):
        # Neighbouring lines in different greens and blues stay apart for the eye.
        colour = ((63, 185, 80), (88, 166, 255), (240, 198, 72))[number % 3]
        start, end = (x, y), (left.width + gap + u, v)
        draw.line([start, end], fill=colour, width=1)
        for a, b in (start, end):
            draw.ellipse([a - 2, b - 2, a + 2, b + 2], outline=colour, width=1)
    return both
