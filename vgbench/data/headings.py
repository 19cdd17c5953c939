"""Headings of other conventions as ours: degrees clockwise from north, of the picture's centre.

SF-XL's README says that the heading of a panorama is that of its centre, with 90 degrees in the west, and that the
heading of a crop is that of its leftmost column. The cropping code that was published with EigenPlaces takes the
panoramas' headings as clockwise. The README is about the data and is followed here; `--crop_headings` has both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.data.options import CONVENTIONS as CONVENTIONS
from vgbench.data.table import ImageTable

PANORAMA_WIDTH, CROP_WIDTH = 3328, 512
CROP_FIELD = 360.0 * CROP_WIDTH / PANORAMA_WIDTH
"""Degrees that a crop of SF-XL shows: 55.4, so that its centre is 27.7 off its leftmost column."""
_SF_XL = ("sf_xl", "sf_xs")

Floats = NDArray[np.floating]


def compass(heading: Floats, convention: str) -> NDArray[np.float64]:
    """Return headings clockwise of the centres, degrees in [0, 360), float64 [N]; NaN stays.

    Args:
        heading: degrees [N], of the centre or of the leftmost column of a crop of SF-XL, as `convention` says.
        convention: "centre", "left" or "left_counterclockwise".
    """
    turned = np.asarray(heading, np.float64)
    turned = -turned if convention == "left_counterclockwise" else turned
    # To the right in a picture is clockwise.
    return np.mod(turned + (0.0 if convention == "centre" else CROP_FIELD / 2), 360.0)


def with_compass_headings(table: ImageTable, convention: str, dataset: str) -> ImageTable:
    """Return a table with our headings.

    Args:
        convention: one of CONVENTIONS; "auto" is that of SF-XL for the datasets that are cut out of it, else ours.
        dataset: its name.
    """
    if convention == "auto":
        convention = "left_counterclockwise" if dataset in _SF_XL else "centre"
    return table if convention == "centre" else table.turned(compass(table.heading, convention).astype(np.float32))
