"""Places made of coordinates: square cells of UTM, and bins of heading."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.data.table import ImageTable

Rows = NDArray[np.int64]


def cell_indices(utm: NDArray[np.float64], side: float, origin: tuple[float, float] = (0.0, 0.0)) -> Rows:
    """Return the cell of each image, int64 [N,2] (east, north); cells are squares of `side` metres from `origin`."""
    return np.asarray(np.floor((utm - np.asarray(origin)) / side), np.int64)


def heading_bins(heading: NDArray[np.floating], width: float, origin: float = 0.0) -> Rows:
    """Return the bin of each heading, int64 [N]: bins of `width` degrees that begin at `origin`; -1 where unknown.

    360 degrees that are no multiple of `width` leave a last, narrower bin.
    """
    turned = np.mod(np.asarray(heading, np.float64) - origin, 360.0)
    return np.where(np.isnan(turned), -1, np.floor(turned / width)).astype(np.int64)


def labels_of(*keys: Rows) -> tuple[Rows, Rows]:
    """Number the distinct combinations of keys (int64 [N] or [N,k] each).

    Returns:
        (int64 [N] labels from 0, int64 [labels, all keys] the combination of each label), in sorted order.
    """
    columns = np.concatenate([key.reshape(len(key), -1) for key in keys], axis=1)
    distinct, labels = np.unique(columns, axis=0, return_inverse=True)
    return labels.reshape(-1).astype(np.int64), distinct


def rows_by_label(labels: Rows) -> tuple[Rows, Rows]:
    """Group rows by label: (int64 [N] rows sorted by label, int64 [labels + 1] where each label starts)."""
    order = np.argsort(labels, kind="stable").astype(np.int64)
    starts = np.searchsorted(labels[order], np.arange(int(labels.max(initial=-1)) + 2)).astype(np.int64)
    return order, starts


def derive_places(
    table: ImageTable, *, side: float, bin_width: float, origin: tuple[float, float] = (0.0, 0.0), turn: float = 0.0
) -> Rows:
    """Return a place for each image, int64 [N]: those in one cell that look into one bin of heading share it.

    Args:
        table: coordinates and headings; all headings that are unknown are one bin.
        side: of the cells, metres.
        bin_width: of the bins, degrees.
        origin: of the cells, metres east and north.
        turn: where the first bin begins, degrees.
    """
    labels, _ = labels_of(cell_indices(table.utm, side, origin), heading_bins(table.heading, bin_width, turn))
    return labels
