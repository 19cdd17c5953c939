"""Latitude and longitude of positions near images of a database, as far as its file names tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.data.protocol import ImageName, parse_name
from vgbench.data.table import ImageTable
from vgbench.data.utm import LETTERS, letter_of, to_latitude_longitude, zone_of


def zones(table: ImageTable, rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the UTM zones of some images, such as "31U": str [M], '' where their names do not say.

    A name with latitude and longitude but no zone says it as well.
    """
    known = {int(row): _zone(parse_name(table.relative_path(int(row)))) for row in np.unique(rows)}
    return np.array([known[row] for row in rows.tolist()], dtype="<U3")


def latitude_longitude(utm: NDArray[np.float64], zone: NDArray[np.str_]) -> NDArray[np.float64]:
    """Convert positions: float64 [M,2] metres and their zones to float64 [M,2] degrees, NaN without a zone."""
    degrees = np.full(utm.shape, np.nan)
    for name in np.unique(zone):
        if name:
            of_it = zone == name
            east, north = utm[of_it].T
            degrees[of_it] = np.stack(to_latitude_longitude(east, north, int(name[:-1]), name[-1]), axis=1)
    return degrees


def _zone(name: ImageName) -> str:
    number, letter = name.zone_number, name.zone_letter.upper()
    if name.longitude is not None and number is None and -180 <= name.longitude <= 180:
        number = zone_of(name.longitude)
    if name.latitude is not None and not letter and -80 <= name.latitude <= 84:
        letter = letter_of(name.latitude)
    valid = number is not None and 1 <= number <= 60 and len(letter) == 1 and letter in LETTERS
    return f"{number}{letter}" if valid else ""
