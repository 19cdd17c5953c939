"""Pictures of predictions: thumbnails for the page, and the panel of one query with its best predictions."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vgbench.data import Neighbours, Split
from vgbench.data.image_file import open_image, orientation, quiet
from vgbench.report.outcome import metres_text
from vgbench.retrieval.predictions import Predictions

GREEN, RED, BLUE, INK, PAPER = "#1a7f37", "#cf222e", "#0969da", "#1f2328", "#ffffff"
MISSING = "#8b949e"
_READERS = 4


def read_thumbnail(path: Path, box: tuple[int, int], *, upright: bool = False) -> Image.Image:
    """Read an image as RGB, made to fit into `box` (width, height) with its own proportions.

    With `upright` it is turned as its EXIF says (`ImageTable.upright`). An image that cannot be read becomes a grey
    tile: a picture is no reason to lose a finished run.
    """
    try:
        with open_image(path, (box[1] * 2, box[0] * 2)) as image:
            turned = upright and orientation(image) != 1
            small = (ImageOps.exif_transpose(image) if turned else image).convert("RGB")
    except (OSError, Image.DecompressionBombError):
        tile = Image.new("RGB", box, MISSING)
        ImageDraw.Draw(tile).text((8, 8), "unreadable", fill=PAPER)
        return tile
    share = min(box[0] / small.width, box[1] / small.height)
    # At least one pixel: a strip of 1 by 10,000 would round to nothing.
    fitting = (max(round(small.width * share), 1), max(round(small.height * share), 1))
    return small.resize(fitting, Image.Resampling.HAMMING)  # about as sharp as Lanczos, in half of the time


def jpeg_uri(image: Image.Image, quality: int = 72) -> str:
    """Return an image as the text of a `data:` URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thumbnail_uris(paths: Iterable[Path], box: tuple[int, int], *, upright: bool = False) -> dict[Path, str]:
    """Return the thumbnail of each distinct path as a `data:` URI, read by a few threads."""
    distinct = list(dict.fromkeys(paths))

    def uri(path: Path) -> str:
        return jpeg_uri(read_thumbnail(path, box, upright=upright))

    with quiet(), ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(distinct, pool.map(uri, distinct), strict=True))


def prediction_panel(
    split: Split,
    predictions: Predictions,
    neighbours: Neighbours | None,
    query_row: int,
    *,
    top: int = 5,
    box: tuple[int, int] = (320, 240),
) -> Image.Image:
    """Draw a query (blue border) beside its best predictions, right ones bordered green and wrong ones red.

    Args:
        neighbours: the positives of each query; None where nobody knows them, for gray borders.
        query_row: row of the query in `split.queries`.
        top: how many predictions at most.
        box: width and height that each photograph fits into, pixels.

    Raises:
        IndexError: there is no such query.
    """
    if not 0 <= query_row < len(predictions.indices):
        raise IndexError(f"query {query_row}: expected 0..{len(predictions.indices) - 1}")
    rows = predictions.indices[query_row, :top]
    query = read_thumbnail(split.queries.path(query_row), box, upright=split.queries.upright)
    tiles = [(query, "query", BLUE)]

    def match(row: int) -> Image.Image:
        return read_thumbnail(split.database.path(row), box, upright=split.database.upright)

    if neighbours is None:
        shown = zip(rows.tolist(), predictions.distances[query_row].tolist(), strict=False)
        tiles += [(match(row), f"{n}.  d {d:.3f}", MISSING) for n, (row, d) in enumerate(shown, start=1)]
        return _compose(tiles)
    # Of this query alone: a search among all positives would cost as much for one panel as for all.
    correct = np.isin(rows, neighbours.of(query_row))
    offsets = split.database.utm[rows] - split.queries.utm[query_row]
    for rank, (row, right, offset) in enumerate(zip(rows, correct, offsets, strict=True), start=1):
        text = f"{rank}.  {metres_text(float(np.hypot(*offset)))}"
        tiles.append((match(int(row)), text, GREEN if right else RED))
    return _compose(tiles)


def _compose(
    tiles: list[tuple[Image.Image, str, str]], border: int = 6, gap: int = 10, caption: int = 30
) -> Image.Image:
    """Set photographs in a row, each in its border over its caption."""
    height = max(image.height for image, _, _ in tiles) + 2 * border
    width = sum(image.width + 2 * border + gap for image, _, _ in tiles) + gap
    panel = Image.new("RGB", (width, height + caption + 2 * gap), PAPER)
    draw = ImageDraw.Draw(panel)
    font = ImageFont.load_default(size=17)
    x = gap
    for image, text, colour in tiles:
        framed = ImageOps.expand(image, border, colour)
        panel.paste(framed, (x, gap + height - framed.height))
        draw.text((x + 2, gap + height + 5), text, fill=INK if colour in (BLUE, MISSING) else colour, font=font)
        x += framed.width + gap
    return panel


# Black, violet, red, orange, yellow: as dark as unimportant.
_ANCHORS = np.array([[0, 0, 20], [84, 16, 109], [187, 55, 84], [249, 142, 8], [252, 255, 164]], np.float64)
_LINES = 60


def heat_picture(path: Path, heat: NDArray[np.uint8], box: tuple[int, int], *, upright: bool = False) -> Image.Image:
    """Lay a heat map over a photograph: bright where it counts, dark where it does not.

    Args:
        heat: uint8 [h,w].
        box: width and height that the photograph fits into, pixels.
        upright: turn it as its EXIF says (`ImageTable.upright`).
    """
    photo = read_thumbnail(path, box, upright=upright)
    levels = Image.fromarray(heat).resize(photo.size, Image.Resampling.BICUBIC)
    value = np.asarray(levels, np.float64)[..., None] / 255
    steps = np.linspace(0, 1, len(_ANCHORS))
    colour = np.concatenate([np.interp(value, steps, _ANCHORS[:, channel]) for channel in range(3)], axis=2)
    gray = np.asarray(photo.convert("L"), np.float64)[..., None]
    mixed = gray * (0.3 + 0.2 * value) + colour * (0.1 + 0.6 * value)
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def match_picture(
    query: Path,
    match: Path,
    points: NDArray[np.float32],
    box: tuple[int, int],
    gap: int = 8,
    *,
    upright: tuple[bool, bool] = (False, False),
) -> Image.Image:
    """Set a query and its match side by side and join what agrees, of many matches an even selection.

    Args:
        points: float32 [m,4], as `LocalMatches.of` gives them.
        box: width and height that each photograph fits into, pixels.
        upright: whether each is turned as its EXIF says.
    """
    left, right = (
        read_thumbnail(path, box, upright=turned) for path, turned in zip((query, match), upright, strict=True)
    )
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
