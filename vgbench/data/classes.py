"""Images as classes: CosPlace's groups of cells and headings, EigenPlaces' views of a focal point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgbench.data.cells import Rows, cell_indices, heading_bins, labels_of, rows_by_label
from vgbench.data.table import ImageTable


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of one classifier.

    Attributes:
        rows: int64 [n] into the table, sorted by class.
        starts: int64 [classes + 1], where each class starts in `rows`.
    """

    rows: Rows
    starts: Rows

    def __len__(self) -> int:
        return len(self.starts) - 1

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Draw `count` images: classes one after the other in random order, a random image of each.

        Returns:
            (int64 [count] rows of the table, int64 [count] classes).
        """
        passes = [rng.permutation(len(self)) for _ in range(-(-count // len(self)))]
        labels = np.concatenate(passes)[:count].astype(np.int64)
        sizes = self.starts[labels + 1] - self.starts[labels]
        return self.rows[self.starts[labels] + (rng.random(count) * sizes).astype(np.int64)], labels


# What one epoch trains on: CosPlace's one set of classes, or EigenPlaces' lateral and frontal ones.
Group = tuple[Classes, ...]


def cosplace_groups(
    table: ImageTable, *, side: float, angle: float, spacing: int, turns: int, at_least: int, most: int
) -> Sequence[Group]:
    """Divide images into classes, and classes into groups of classes that cannot show the same thing.

    A class is a cell of `side` metres and a bin of `angle` degrees; a group has every `spacing`-th cell in each
    direction and every `turns`-th bin (Berton, Masone and Caputo, "Rethinking Visual Geo-localization for Large-Scale
    Applications", 2022: M, alpha, N and L).

    Args:
        at_least: classes with fewer images are left out.
        most: groups to return, the first of those that have two classes or more.
    """
    cells, bins = cell_indices(table.utm, side), heading_bins(table.heading, angle)
    labels, keys = labels_of(cells, bins)
    remainders = np.stack([keys[:, 0] % spacing, keys[:, 1] % spacing, keys[:, 2] % turns], axis=1)
    return _grouped(labels, remainders, at_least, most)


def eigenplaces_groups(
    table: ImageTable, *, side: float, spacing: int, focal: float, tolerance: float, at_least: int, most: int
) -> Sequence[Group]:
    """Divide images into cells, and take of each the images that look at a point beside and at one along the street.

    The street of a cell runs along the first principal component of its images' coordinates; the points lie `focal`
    metres from the cell's mean, across the street (lateral) and along it (frontal) (Berton, Trivigno, Caputo and
    Masone, "EigenPlaces: Training Viewpoint Robust Models for Visual Place Recognition", 2023: M and N). The paper
    crops panoramas towards the point; of photographs, those are taken that look there to within `tolerance` degrees.

    Returns:
        Groups of two: lateral and frontal classes.
    """
    labels, keys = labels_of(cell_indices(table.utm, side))
    remainders = keys % spacing
    parts = []
    for lateral in (True, False):
        seen = looks_at(table, focal_points(table.utm, labels, focal, lateral=lateral)[labels], tolerance)
        parts.append(np.where(seen, labels, -1))
    lateral_groups, frontal_groups = ({g.key: g for g in _keyed(part, remainders, at_least)} for part in parts)
    both = sorted(lateral_groups.keys() & frontal_groups.keys())
    return [(lateral_groups[key].classes, frontal_groups[key].classes) for key in both][:most]


def focal_points(utm: NDArray[np.float64], labels: Rows, distance: float, *, lateral: bool) -> NDArray[np.float64]:
    """Return the point that the images of each cell are to look at, float64 [cells,2], metres.

    Args:
        utm: float64 [N,2].
        labels: int64 [N], the cell of each image.
        distance: from the mean of the cell's images, metres.
        lateral: across the street, else along it. Of two such points the one further north is taken (east, if both are
            as far north).
    """
    count = np.bincount(labels)[:, None]
    mean = np.stack([np.bincount(labels, utm[:, axis]) for axis in (0, 1)], axis=1) / count
    x, y = (utm - mean[labels]).T
    # The direction of the first principal component of a 2x2 covariance, in closed form.
    xx, yy, xy = (np.bincount(labels, product) for product in (x * x, y * y, x * y))
    along = 0.5 * np.arctan2(2 * xy, xx - yy)
    turned = along + np.pi / 2 if lateral else along
    direction = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    direction[np.abs(direction) < 1e-12] = 0
    south = (direction[:, 1] < 0) | ((direction[:, 1] == 0) & (direction[:, 0] < 0))
    return np.asarray(mean + distance * np.where(south[:, None], -direction, direction))


def looks_at(table: ImageTable, points: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Say which images look at their point (float64 [N,2], metres) to within `tolerance` degrees; no heading: none."""
    east, north = (points - table.utm).T
    wanted = np.degrees(np.arctan2(east, north))
    off = np.abs((wanted - table.heading + 180) % 360 - 180)
    return np.asarray(off <= tolerance)


@dataclass(frozen=True, eq=False)
class _Keyed:
    key: tuple[int, ...]
    classes: Classes


def _grouped(labels: Rows, remainders: Rows, at_least: int, most: int) -> Sequence[Group]:
    return [(group.classes,) for group in _keyed(labels, remainders, at_least)][:most]


def _keyed(labels: Rows, remainders: Rows, at_least: int) -> list[_Keyed]:
    """Gather the classes of each group, in the order of the groups' keys.

    Args:
        labels: int64 [N], the class of each image, -1 for none.
        remainders: int64 [classes,k], the group of each class.
    """
    sizes = np.bincount(labels[labels >= 0], minlength=len(remainders))
    large = sizes >= at_least
    keys, group_of = np.unique(remainders, axis=0, return_inverse=True)
    group_of = group_of.reshape(-1)
    groups = []
    for number, key in enumerate(keys):
        chosen = np.flatnonzero(large & (group_of == number))
        if len(chosen) < 2:  # nothing to tell apart
            continue
        renumbered = np.full(len(remainders) + 1, -1, np.int64)  # the last stands for label -1
        renumbered[chosen] = np.arange(len(chosen))
        own = renumbered[labels]
        rows = np.flatnonzero(own >= 0)
        order, starts = rows_by_label(own[rows])
        groups.append(_Keyed(tuple(int(part) for part in key), Classes(rows[order], starts)))
    return groups


def groups_line(groups: Sequence[Group]) -> str:
    """Return how many classes and images the groups have, for the log."""
    classes = sum(len(part) for group in groups for part in group)
    images = sum(len(part.rows) for group in groups for part in group)
    return f"{len(groups)} groups of {classes} classes and {images} images in all"
