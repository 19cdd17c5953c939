"""How time grows with the number of images: listing, fingerprint, positives, mining, search; python3 -m perf --growth.

The plain way to list and to find positives (glob and split; one radius query by scikit-learn) is drawn beside ours.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from perf.measure import write_descriptors
from vgbench.data import neighbours_within, read_folder
from vgbench.data.many_names import AT_ONCE
from vgbench.data.utm import to_latitude_longitude
from vgbench.files import write_text
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.searching.exact import search
from vgbench.training.mining.hardest import rank

SIZES = (1_000, 10_000, 100_000)
DIM, QUERIES, RADIUS, SPACING = 128, 300, 25.0, 7.0
LINKS = 10_000  # names of one file; ext4 allows 65,000
FITTED = 10  # an exponent is fitted from sizes of at least the largest by this: smaller ones measure the start
COLOURS = {"listing": "#0072b2", "fingerprint": "#d55e00", "positives": "#009e73", "mining": "#cc79a7",
           "search": "#e69f00"}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One measurement: what, for how many images, by whom ("ours" or "plain"), and its processor seconds."""

    what: str
    images: int
    side: str
    seconds: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    group = parser.add_argument_group("growth")
    group.add_argument("--growth", action="store_true", help="measure how time grows with the images, and draw it")
    group.add_argument("--counts", nargs="+", type=int, default=list(SIZES),
                       help="images (default: 1000 10000 100000; 1000000: minutes, 2 GB of memory)")  # fmt: skip


def main(arguments: argparse.Namespace) -> None:
    """Measure, write growth.json, growth.svg and growth.png, and print the table."""
    out: Path = arguments.out
    points: list[Point] = []
    measure(100, repeats=1)  # imports
    out.mkdir(parents=True, exist_ok=True)
    for images in tqdm(sorted(set(arguments.counts)), desc="growth", unit="size"):
        points += measure(images, repeats=arguments.repeats)
        write_text(out / "growth.json", json.dumps([asdict(point) for point in points], indent=1) + "\n")
        draw(points, out)
    print(f"processor seconds, the best of {arguments.repeats}\n\n{table(points)}\n")
    print(f"pictures: {out / 'growth.svg'}, {out / 'growth.png'}")


def measure(images: int, repeats: int) -> list[Point]:
    """Measure everything for one number of images."""
    with tempfile.TemporaryDirectory(prefix="perf-") as name:
        tasks = {**_of_names(Path(name) / "database", images), **_of_descriptors(Path(name), images)}
        return [
            Point(what, images, side, min(_processor_seconds(action) for _ in range(repeats)))
            for (what, side), action in tasks.items()
        ]


Tasks = dict[tuple[str, str], Callable[[], object]]


def _of_names(folder: Path, images: int) -> Tasks:
    """Listing, fingerprint and positives of images along streets 7 m apart, a tenth as many queries."""
    utm = _positions(images)
    _touch(folder, utm)
    queries = utm[::10] + 3.0

    def plain_listing() -> object:
        paths = sorted(glob(f"{folder}/**/*.jpg", recursive=True))  # noqa: PTH207  (that is the plain way)
        return np.array([(path.split("@")[1], path.split("@")[2]) for path in paths]).astype(float)

    def plain_positives() -> object:
        from sklearn.neighbors import NearestNeighbors

        return NearestNeighbors(n_jobs=1).fit(utm).radius_neighbors(queries, radius=RADIUS, return_distance=False)

    return {
        ("listing", "ours"): lambda: read_folder(folder),
        ("listing", "plain"): plain_listing,
        ("fingerprint", "ours"): _fingerprint(folder),
        ("positives", "ours"): lambda: neighbours_within(queries, utm, RADIUS),
        ("positives", "plain"): plain_positives,
    }


def _fingerprint(folder: Path) -> Callable[[], object]:
    table = read_folder(folder)
    everything = np.arange(len(table))
    return lambda: table.select(everything).fingerprint()  # a new table each time: it remembers


def _of_descriptors(folder: Path, images: int) -> Tasks:
    """Full mining and exact search of 300 queries among all images."""
    for name, rows in (("database", images), ("queries", QUERIES)):
        write_descriptors(folder / f"{name}.h5", rows, DIM, seed=rows)
    rng = np.random.default_rng(0)
    everything = np.arange(images, dtype=np.int64)
    positives = np.repeat(np.arange(QUERIES), 5), rng.integers(0, images, 5 * QUERIES)
    negatives = rng.integers(0, images, (QUERIES, 1000))

    def mine() -> object:
        with Descriptors(folder / "database.h5") as database, Descriptors(folder / "queries.h5") as queries:
            return rank(queries.read().float(), _batches(database), everything, positives, negatives, 10)

    def find() -> object:
        with Descriptors(folder / "database.h5") as database, Descriptors(folder / "queries.h5") as queries:
            return search(database, queries, 20)

    return {("mining", "ours"): mine, ("search", "ours"): find}


def _batches(database: Descriptors) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(database), AT_ONCE):
        block = database.read(start, start + AT_ONCE).float()
        yield torch.arange(start, start + len(block)), block


def _positions(images: int) -> NDArray[np.float64]:
    street = math.ceil(math.sqrt(images))
    place = np.arange(images)
    return np.stack([500_000 + SPACING * (place % street), 4_000_000 + SPACING * (place // street)], axis=1)


def _touch(folder: Path, utm: NDArray[np.float64]) -> None:
    """Make names as long as those of public sets, of a few empty files: a file system need not have a million."""
    folder.mkdir(parents=True)
    places = np.column_stack([utm, *to_latitude_longitude(utm[:, 0], utm[:, 1], 10, "S")])
    first = ""
    for number, (east, north, latitude, longitude) in enumerate(places):
        where = f"@{east:010.2f}@{north:010.2f}@10@S@{latitude:09.5f}@{longitude:010.5f}"
        name = f"{where}@pano{number:09d}@@{number % 360:03d}@@@@201306@@.jpg"
        if number % LINKS == 0:
            (folder / name).touch()
            first = name
        else:
            os.link(folder / first, folder / name)


def _processor_seconds(action: Callable[[], object]) -> float:
    begin = time.process_time()
    action()
    return time.process_time() - begin


def exponent(points: Sequence[Point]) -> float:
    """Return the b of seconds = a * images^b that fits the larger sizes best (least squares of logarithms)."""
    largest = max(point.images for point in points)
    used = [point for point in points if point.images * FITTED >= largest]
    if len(used) < 2:
        return math.nan
    x, y = np.log([point.images for point in used]), np.log([max(point.seconds, 1e-6) for point in used])
    return float(np.polyfit(x, y, 1)[0])


def lines_of(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    """Return the points of each (what, side), by images."""
    found: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.images):
        found.setdefault((point.what, point.side), []).append(point)
    return found


def table(points: Sequence[Point]) -> str:
    """Return seconds by images, and the exponent of each line."""
    sizes = sorted({point.images for point in points})
    rows: list[list[str]] = []
    for (what, side), line in lines_of(points).items():
        seconds = {point.images: f"{point.seconds:.3g}" for point in line}
        rows.append([f"{what}, {side}", *(seconds.get(size, "") for size in sizes), f"{exponent(line):.2f}"])
    headers = ["what", *(f"{size:,} images" for size in sizes), "exponent"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def draw(points: Sequence[Point], folder: Path) -> None:
    """Draw the lines, both axes in logarithms, as growth.svg and growth.png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes: Any = figure.subplots()
    for (what, side), line in lines_of(points).items():
        label = f"{what}{'' if side == 'ours' else ', the plain way'}: exponent {exponent(line):.2f}"
        axes.plot(
            [point.images for point in line], [point.seconds for point in line], label=label, color=COLOURS[what],
            marker="o", linestyle="-" if side == "ours" else ":",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="images", ylabel="processor seconds")
    axes.grid(visible=True, which="major", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    for ending in ("svg", "png"):
        figure.savefig(folder / f"growth.{ending}", dpi=130)
