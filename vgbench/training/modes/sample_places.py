"""Batches of places: which places stand together in a batch, and which images of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgbench.data.cells import Rows, rows_by_label
from vgbench.data.table import ImageTable
from vgbench.training.modes.places_options import PlacesOptions

# Two pictures taken closer than `place_gap` show the same thing unless their headings differ by this much, degrees.
OVERLAP = 60.0


@dataclass(frozen=True, eq=False)
class Sites:
    """Places with enough images.

    Attributes:
        rows: int64 [n], images sorted by label.
        starts: int64 [labels + 1], where each label's images start in `rows`.
        usable: int64 [P], the labels with enough images.
        centres: float64 [labels,2], mean coordinates in metres; None where places are known to be apart.
        radii: float64 [labels], how far a place's images are from its centre at most, metres.
        headings: float64 [labels], degrees, NaN where unknown.
    """

    rows: Rows
    starts: Rows
    usable: Rows
    centres: NDArray[np.float64] | None = None
    radii: NDArray[np.float64] | None = None
    headings: NDArray[np.float64] | None = None

    @property
    def count(self) -> int:
        """How many places have enough images."""
        return len(self.usable)

    @property
    def labels_count(self) -> int:
        """How many labels there are, those of places with too few images included."""
        return len(self.starts) - 1

    @classmethod
    def known(cls, labels: Rows, at_least: int) -> Sites:
        """Places as a data set gives them, which it chose to be apart."""
        rows, starts = rows_by_label(labels)
        return cls(rows, starts, np.flatnonzero(np.diff(starts) >= at_least).astype(np.int64))

    @classmethod
    def derived(cls, labels: Rows, at_least: int, images: ImageTable) -> Sites:
        """Places derived from coordinates, of which some lie side by side."""
        known = cls.known(labels, at_least)
        size = np.maximum(np.diff(known.starts), 1)
        sums = [np.bincount(labels, images.utm[:, axis], minlength=len(size)) for axis in (0, 1)]
        radians = np.radians(images.heading.astype(np.float64))
        sine, cosine = (np.bincount(labels, f(radians), minlength=len(size)) for f in (np.sin, np.cos))
        headings = np.degrees(np.arctan2(sine, cosine))
        centres = np.stack(sums, 1) / size[:, None]
        radii = np.zeros(len(size))
        np.maximum.at(radii, labels, np.linalg.norm(images.utm - centres[labels], axis=1))
        return cls(known.rows, known.starts, known.usable, centres, radii, headings)


def draw_batches(sites: Sites, options: PlacesOptions, rng: np.random.Generator) -> list[tuple[Rows, Rows]]:
    """Draw one pass over all places.

    Each place is in one batch, with `img_per_place` distinct images; places that look the same way and have images
    nearer than `place_gap` never meet in a batch, since they would count as different. A last batch of one place is
    left out.

    Returns:
        (rows of the table int64 [B], labels int64 [B]) a batch.
    """
    pending = rng.permutation(sites.usable)
    batches = []
    while len(pending):
        if sites.centres is None:
            chosen, pending = pending[: options.places_per_batch], pending[options.places_per_batch :]
        else:
            pending = _neighbours_first(pending, sites.centres, options.place_spread)
            chosen, pending = _apart(pending, sites, options)
        if len(chosen) > 1:
            batches.append(_draw_images(chosen, sites, options.img_per_place, rng))
    return batches


def _neighbours_first(pending: Rows, centres: NDArray[np.float64], spread: float | None) -> Rows:
    """Move the places within `spread` metres of the first one to the front, in the order that they are in."""
    if spread is None:
        return pending
    far = np.linalg.norm(centres[pending] - centres[pending[0]], axis=1) > spread
    return pending[np.argsort(far, kind="stable")]


def _apart(pending: Rows, sites: Sites, options: PlacesOptions) -> tuple[Rows, Rows]:
    """Take places for a batch, in order, passing over those that stand too close to one that is taken."""
    assert sites.centres is not None and sites.headings is not None and sites.radii is not None
    centres, headings, radii = sites.centres[pending], sites.headings[pending], sites.radii[pending]
    free = np.ones(len(pending), dtype=bool)
    taken: list[int] = []
    while len(taken) < options.places_per_batch and free.any():
        place = int(free.argmax())
        taken.append(place)
        near = np.linalg.norm(centres - centres[place], axis=1) < options.place_gap + radii + radii[place]
        turned = np.abs((headings - headings[place] + 180) % 360 - 180)
        free &= ~(near & ~(turned >= OVERLAP))
        free[place] = False
    left = np.ones(len(pending), dtype=bool)
    left[taken] = False
    return pending[taken], pending[left]


def _draw_images(places: Rows, sites: Sites, count: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    rows = [
        rng.choice(sites.rows[sites.starts[place] : sites.starts[place + 1]], count, replace=False) for place in places
    ]
    return np.concatenate(rows).astype(np.int64), np.repeat(places, count)
