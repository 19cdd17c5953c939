"""Headings of other conventions as ours: degrees clockwise from north, of the picture's centre.

SF-XL's README says that the heading of a panorama is that of its centre, with 90 degrees in the west, and that the
heading of a crop is that of its leftmost column. The code that the same authors published with EigenPlaces, and trained
with, finds a point in a panorama only if its heading turns clockwise. Which of the two holds is read off the crops
themselves (`heading_sense`); where they do not say, the code that was run on the data is believed, not the sentence.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from vgbench.data.heading_sense import sense_of_crops
from vgbench.data.options import CONVENTIONS as CONVENTIONS
from vgbench.data.table import ImageTable

LOG = logging.getLogger(__name__)

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
        convention: one of CONVENTIONS; "auto" is that of the leftmost column for the sets that are cut out of SF-XL,
            turning as their overlapping crops say, else ours.
        dataset: its name.
    """
    if convention == "auto":
        convention = _of_sf_xl(table, dataset) if dataset in _SF_XL else "centre"
    return table if convention == "centre" else table.turned(compass(table.heading, convention).astype(np.float32))


def _of_sf_xl(table: ImageTable, dataset: str) -> str:
    votes = sense_of_crops(table, CROP_FIELD)
    clockwise = votes.settled is not False
    how = "clockwise" if clockwise else "counter-clockwise"
    if votes.settled is None:
        LOG.info(
            "%s: headings are taken as those of the leftmost column, %s, as EigenPlaces was trained; overlapping crops "
            "of one panorama do not say it (%s); --crop_headings has the other readings", dataset, how, votes,
        )  # fmt: skip
    else:
        LOG.info("%s: headings are those of the leftmost column, %s (overlapping crops: %s)", dataset, how, votes)
    return "left" if clockwise else "left_counterclockwise"
