"""Which way the headings of a set turn, clockwise or not, read off its own images and positions.

The publishers of SF-XL say both: its README has 90 degrees in the west, their code for EigenPlaces, which was run on
its panoramas, has them clockwise. Crops of one panorama overlap, and cars look along their street: so the data says it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgbench.data.cells import cell_indices, labels_of
from vgbench.data.image_file import open_image
from vgbench.data.name_fields import pano_id_of
from vgbench.data.table import ImageTable

Floats = NDArray[np.float64]

_LEAST, _MAJORITY = 5, 0.8
_PAIRS, _SIZE = 60, (64, 256)
_NEXT = (10.0, 40.0)  # degrees from one crop to the next, so that they show enough of the same and not nearly all
_CLEARLY = 0.1  # by which one overlap is more alike than the other
_CELL, _SEEN, _LONG = 20.0, 4, 20.0
_MIRRORED = 10.0  # degrees between the two readings of a heading, below which it says nothing


@dataclass(frozen=True)
class Votes:
    """What was found: how many images, or pairs of them, say which.

    Attributes:
        clockwise, counter: votes for each.
    """

    clockwise: int
    counter: int

    @property
    def settled(self) -> bool | None:
        """Whether headings turn clockwise; None where too few say so, or they do not agree."""
        total = self.clockwise + self.counter
        if total < _LEAST or max(self.clockwise, self.counter) < _MAJORITY * total:
            return None
        return self.clockwise > self.counter

    def __str__(self) -> str:
        return f"{self.clockwise} for clockwise, {self.counter} for counter-clockwise"


def sense_of_crops(table: ImageTable, field: float) -> Votes:
    """Compare neighbouring crops of one panorama: where headings turn clockwise, the next one shows more to the right.

    Args:
        table: crops with headings, those of one panorama at one position.
        field: degrees that a crop shows.
    """
    votes = [0, 0]
    for first, second, turn in _neighbouring(table):
        shared = round(_SIZE[1] * (1 - turn / field))
        if len({pano_id_of(table.relative_path(row)) for row in (first, second)}) > 1 or shared < 8:
            continue
        try:
            one, other = (_gray(table, row) for row in (first, second))
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        right, left = _alike(one[:, -shared:], other[:, :shared]), _alike(one[:, :shared], other[:, -shared:])
        if abs(right - left) > _CLEARLY:
            votes[int(left > right)] += 1
    return Votes(*votes)


def sense_of_panoramas(utm: Floats, heading: Floats) -> Votes:
    """Compare the headings of panoramas, which look along the street where the car drove, with the streets' direction.

    Args:
        utm: float64 [N,2], metres.
        heading: degrees of the centre, float64 [N].
    """
    known = np.isfinite(heading)
    utm, heading = utm[known], heading[known]
    if not len(utm):
        return Votes(0, 0)
    labels, _ = labels_of(cell_indices(utm, _CELL))
    along, is_street = _streets(utm, labels)
    clockwise, counter = (_between_lines(sign * heading, along[labels]) for sign in (1, -1))
    says = is_street[labels] & (np.abs(clockwise - counter) > _MIRRORED)
    return Votes(int((says & (clockwise < counter)).sum()), int((says & (counter < clockwise)).sum()))


def _streets(utm: Floats, labels: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each cell's direction, degrees clockwise from north, and whether its positions lie along a line."""
    count = np.bincount(labels)
    mean = np.stack([np.bincount(labels, utm[:, axis]) for axis in (0, 1)], axis=1) / count[:, None]
    x, y = (utm - mean[labels]).T
    xx, yy, xy = (np.bincount(labels, product) for product in (x * x, y * y, x * y))
    spread = np.hypot(xx - yy, 2 * xy)
    across = np.maximum((xx + yy - spread) / 2, 1e-9)
    is_street = (count >= _SEEN) & ((xx + yy + spread) / 2 > _LONG * across)
    return 90.0 - np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)), is_street


def _between_lines(first: Floats, second: Floats) -> Floats:
    """Return the angles between directions whose two ends count as one, degrees in [0, 90]."""
    return np.abs((first - second + 90) % 180 - 90)


def _neighbouring(table: ImageTable) -> list[tuple[int, int, float]]:
    """Return some pairs of crops at one position, the second a little further on, and by how much, degrees."""
    if len(table) < 2:
        return []
    here = np.flatnonzero((np.diff(table.utm, axis=0) == 0).all(axis=1) & np.isfinite(np.diff(table.heading)))
    turn = np.mod(np.diff(table.heading.astype(np.float64))[here], 360.0)
    near = np.minimum(turn, 360.0 - turn)
    here, turn, near = (one[(near >= _NEXT[0]) & (near <= _NEXT[1])] for one in (here, turn, near))
    chosen = np.unique(np.linspace(0, len(here) - 1, min(_PAIRS, len(here))).astype(np.int64))
    # The second row of a pair is the one that is further on.
    after = np.where(turn < 180, here + 1, here)
    return [(int(2 * here[i] + 1 - after[i]), int(after[i]), float(near[i])) for i in chosen]


def _gray(table: ImageTable, row: int) -> Floats:
    with open_image(table.path(row), _SIZE) as image:
        small = image.convert("L").resize((_SIZE[1], _SIZE[0]), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float64)


def _alike(one: Floats, other: Floats) -> float:
    """Return the correlation of two pictures, 0 where one is of a single colour."""
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 0 else 0.0
