"""Hard batches of places that look alike and lie apart: CliqueMining (Izquierdo and Civera, ECCV 2024).

One image of each cluster (a cell of the map, and a heading) is described by the network as it is. A random cluster and
those most similar to it make a graph, whose images are joined where they are nearer than a radius: a clique of that
graph is a place. What is nearer than the radius to a place that is taken is left out, so that images of one place are
all nearer to one another than the radius, and images of two places in a batch are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench.data.cells import Rows, rows_by_label
from vgbench.data.table import ImageTable
from vgbench.training.modes.sample_places import OVERLAP

_MOST_OF_A_CLUSTER = 64  # images in the graph, drawn at random where there are more
_TRIES = 4  # draws without a new place, for each place of a batch, before it is left as it is


@dataclass(frozen=True, eq=False)
class Clusters:
    """Images by cluster, of which some have been described.

    Attributes:
        images: all.
        rows: int64 [n], images sorted by cluster.
        starts: int64 [clusters + 1], where each cluster's begin in `rows`.
        chosen: int64 [C], clusters that batches are made of.
    """

    images: ImageTable
    rows: Rows
    starts: Rows
    chosen: Rows

    @classmethod
    def of(cls, images: ImageTable, labels: Rows, most: int, rng: np.random.Generator) -> Clusters:
        """Return `most` random clusters of those that labels int64 [N] say, or all in random order."""
        rows, starts = rows_by_label(labels)
        chosen = rng.permutation(np.flatnonzero(np.diff(starts)))[:most]
        return cls(images, rows, starts, chosen.astype(np.int64))

    def samples(self, rng: np.random.Generator) -> Rows:
        """Return a random image of each chosen cluster, int64 [C]."""
        first, counts = self.starts[self.chosen], np.diff(self.starts)[self.chosen]
        return self.rows[first + (rng.random(len(first)) * counts).astype(np.int64)]

    def images_of(self, places: Sequence[int] | Rows, rng: np.random.Generator) -> Rows:
        """Return the images of some of `chosen`, by their positions in it, int64 [n]; 64 of each at most."""
        found = []
        for place in places:
            cluster = self.chosen[place]
            own = self.rows[self.starts[cluster] : self.starts[cluster + 1]]
            found.append(own if len(own) <= _MOST_OF_A_CLUSTER else rng.choice(own, _MOST_OF_A_CLUSTER, replace=False))
        return np.concatenate(found)


@dataclass(frozen=True)
class CliqueBatch:
    """What a batch is made of: places, images of each, similar clusters a draw, and the radius in metres."""

    places: int
    images: int
    similar: int
    radius: float


def draw_clique_batches(
    clusters: Clusters, descriptors: Tensor, wanted: CliqueBatch, batches: int, rng: np.random.Generator
) -> list[tuple[Rows, Rows]]:
    """Draw batches, which may share images with one another.

    Args:
        descriptors: float32 [C,D] of an image of each chosen cluster, of unit length.
        batches: how many.

    Returns:
        (rows of the table int64 [B], labels int64 [B], from 0 in each batch) a batch; one with fewer than two places
        is left out, and one may have fewer places than were wanted where no more can be found.
    """
    drawn = [_batch(clusters, descriptors, wanted, rng) for _ in range(batches)]
    return [
        (np.concatenate(places), np.repeat(np.arange(len(places), dtype=np.int64), wanted.images))
        for places in drawn
        if len(places) > 1
    ]


def _batch(clusters: Clusters, descriptors: Tensor, wanted: CliqueBatch, rng: np.random.Generator) -> list[Rows]:
    places: list[Rows] = []
    images, failed = clusters.images, 0
    taken = np.empty((0, 2))
    while len(places) < wanted.places and failed < _TRIES * wanted.places:
        alike = most_similar(descriptors, int(rng.integers(len(clusters.chosen))), wanted.similar)
        rows = clusters.images_of(alike, rng)
        rows = rows[~_near(images.utm[rows], taken, wanted.radius).any(axis=1)]
        found = cliques(
            images.utm[rows], images.heading[rows], wanted.radius, wanted.images, wanted.places - len(places), rng
        )
        failed = 0 if found else failed + 1
        places += [rows[clique] for clique in found]
        if found:
            taken = np.concatenate([taken, *(images.utm[rows[clique]] for clique in found)])
    return places


@torch.inference_mode()
def most_similar(descriptors: Tensor, place: int, count: int) -> Rows:
    """Return a place and the `count` others whose descriptors [C,D] have the largest products with its own, int64."""
    products = (descriptors @ descriptors[place]).cpu().numpy()
    products[place] = np.inf
    return np.argsort(-products, kind="stable")[: count + 1].astype(np.int64)


def cliques(
    utm: NDArray[np.float64],
    heading: NDArray[np.floating],
    radius: float,
    size: int,
    most: int,
    rng: np.random.Generator,
) -> list[Rows]:
    """Return up to `most` cliques of images, at random, none of which has an image near one of another.

    Images are joined where they are nearer than the radius, unless their headings are known and 60 degrees or more
    apart.

    Args:
        utm: [n,2], metres.
        heading: [n], degrees, NaN where unknown.
        size: images of a clique.

    Returns:
        int64 [size] each, positions in `utm`.
    """
    near = _near(utm, utm, radius)
    turned = np.abs((heading[:, None] - heading[None] + 180) % 360 - 180)
    joined = near & ~(turned >= OVERLAP)
    np.fill_diagonal(joined, val=False)
    free = np.ones(len(utm), dtype=bool)
    found: list[Rows] = []
    for first in rng.permutation(len(utm)):
        if len(found) == most:
            break
        if not free[first]:
            continue
        clique = _grown([int(first)], joined[first] & free, joined, size, rng)
        if clique is None:  # in no clique with what is left, which only becomes less
            free[first] = False
            continue
        found.append(np.array(clique, np.int64))
        free &= ~near[clique].any(axis=0)
    return found


def _grown(
    members: list[int], others: NDArray[np.bool_], joined: NDArray[np.bool_], size: int, rng: np.random.Generator
) -> list[int] | None:
    """Return `size` images with the members among them, of which all are joined; None where there are none.

    `others` [n] says which are joined with all members.
    """
    if len(members) == size:
        return members
    left = others.copy()
    for one in rng.permutation(np.flatnonzero(others)):
        if len(members) + int(left.sum()) < size:
            return None
        found = _grown([*members, int(one)], left & joined[one], joined, size, rng)
        if found is not None:
            return found
        left[one] = False
    return None


def _near(one: NDArray[np.float64], other: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Say which of [n,2] are nearer than the radius to which of [m,2]: bool [n,m]."""
    near: NDArray[np.bool_] = ((one[:, None] - other[None]) ** 2).sum(axis=2) < radius**2
    return near
