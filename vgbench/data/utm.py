"""Universal Transverse Mercator on the WGS84 ellipsoid, both ways, by PROJ (exact also far outside a zone)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vgbench.errors import UserError

if TYPE_CHECKING:
    from vgbench.data.table import ImageTable

LETTERS = "CDEFGHJKLMNPQRSTUVWX"
SOUTHERNMOST, NORTHERNMOST = -80.0, 84.0
"""Degrees of latitude between which UTM is defined."""
FRAME_SHIFT = 1e7
"""Metres between the frames of towns that share no zone (`vgbench.data.positions.in_one_frame`)."""


class Utm(NamedTuple):
    """One position: metres east and north, the zone (1..60) and its latitude band letter."""

    east: float
    north: float
    zone: int
    letter: str


def check_degrees(latitude: float, longitude: float) -> None:
    """Raise UserError for a latitude or longitude, degrees, that UTM does not know."""
    if not SOUTHERNMOST <= latitude <= NORTHERNMOST:
        raise UserError(
            f"latitude {latitude:g}: out of range. Expected degrees from -80 to 84, where UTM is defined; are latitude "
            "and longitude swapped?"
        )
    if not -180 <= longitude <= 180:
        raise UserError(f"longitude {longitude:g}: out of range. Expected degrees from -180 to 180")


def zone_of(longitude: float, latitude: float = 0.0) -> int:
    """Return the zone of a position in degrees, with the wider zones of western Norway and Svalbard."""
    if 56 <= latitude < 64 and 3 <= longitude < 12:
        return 32
    if latitude >= 72 and 0 <= longitude < 42:
        return (31, 33, 35, 37)[int((longitude + 3) // 12)]
    return int((longitude + 180) // 6) % 60 + 1


def letter_of(latitude: float) -> str:
    """Return the latitude band letter of a latitude in degrees within -80..84."""
    return LETTERS[min(int((latitude + 80) // 8), len(LETTERS) - 1)]


def from_latitude_longitude(latitude: float, longitude: float, zone: int | None = None) -> Utm:
    """Project degrees to UTM metres; `zone` forces a neighbouring zone.

    Raises:
        UserError: degrees out of range.
    """
    check_degrees(latitude, longitude)
    zone = zone_of(longitude, latitude) if zone is None else zone
    letter = letter_of(latitude)
    # By the letter, not by the sign: a latitude a rounding below 0 is in band N.
    [[east, north]] = project([latitude], [longitude], zone, south=letter < "N")
    return Utm(float(east), float(north), zone, letter)


def project(latitude: ArrayLike, longitude: ArrayLike, zone: int, *, south: bool) -> NDArray[np.float64]:
    """Project degrees (float64 [N] each) into one zone, whatever their own: float64 [N,2], metres east and north.

    Args:
        zone: 1..60.
        south: whether northings are those of the southern hemisphere (from 10,000 km south of the equator).
    """
    east, north = _projection(zone, south)(np.asarray(longitude, np.float64), np.asarray(latitude, np.float64))
    return np.stack([east, north], axis=-1)


def in_own_zones(latitude: ArrayLike, longitude: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Project degrees, each into its own zone: float64 [N,2] metres, int8 [N] zones, negative in the south.

    Raises:
        UserError: degrees out of range; the first is named.
    """
    degrees = np.stack([np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)], axis=-1).reshape(-1, 2)
    inside = (degrees[:, 0] >= SOUTHERNMOST) & (degrees[:, 0] <= NORTHERNMOST) & (np.abs(degrees[:, 1]) <= 180)
    if not inside.all():
        check_degrees(*degrees[np.argmin(inside)].tolist())
    zone = np.array([(1 if lat >= 0 else -1) * zone_of(lon, lat) for lat, lon in degrees.tolist()], np.int8)
    utm = np.empty(degrees.shape)
    for code in np.unique(zone).tolist():
        latitudes, longitudes = degrees[zone == code].T
        utm[zone == code] = project(latitudes, longitudes, abs(code), south=code < 0)
    return utm, zone


def to_latitude_longitude(
    east: ArrayLike, north: ArrayLike, zone: int, letter: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return latitude and longitude in degrees, float64 [N] each, of UTM metres [N]; scalars go as well."""
    inverse = _projection(zone, letter.upper() < "N")
    longitude, latitude = inverse(np.asarray(east, np.float64), np.asarray(north, np.float64), inverse=True)
    return np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)


def zones(table: ImageTable, rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the UTM zones of some images of a table, such as "31U": str [M], '' where their names do not say.

    It is the zone that the table's metres are in, and the band of the position itself.
    """
    names = np.full(len(rows), "", dtype="<U3")
    codes = table.zone[rows]
    for code in np.unique(codes[codes != 0]).tolist():
        of_it = np.flatnonzero(codes == code)
        east, north = within_frame(table.utm[rows[of_it]]).T
        latitude, _ = to_latitude_longitude(east, north, abs(code), "N" if code > 0 else "M")
        # A letter says the hemisphere too: across the equator it stays that of the metres.
        bands = np.clip(latitude, 0, NORTHERNMOST) if code > 0 else np.clip(latitude, SOUTHERNMOST, -1e-9)
        names[of_it] = [f"{abs(code)}{letter_of(band)}" for band in bands.tolist()]
    return names


def latitude_longitude(utm: NDArray[np.float64], zone: NDArray[np.str_]) -> NDArray[np.float64]:
    """Convert positions: float64 [M,2] metres and their zones to float64 [M,2] degrees, NaN without a zone."""
    degrees = np.full(utm.shape, np.nan)
    for name in np.unique(zone):
        if name:
            of_it = zone == name
            east, north = within_frame(utm[of_it]).T
            degrees[of_it] = np.stack(to_latitude_longitude(east, north, int(name[:-1]), name[-1]), axis=1)
    return degrees


def within_frame(utm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return metres without the shift that keeps the frames of far towns apart, float64 [N,2]."""
    shift = np.round(utm[:, 0] / FRAME_SHIFT) * FRAME_SHIFT
    return np.stack([utm[:, 0] - shift, utm[:, 1]], axis=1)


@functools.cache
def _projection(zone: int, south: bool) -> Any:
    import pyproj  # here, since most runs never ask for degrees

    return pyproj.Proj(proj="utm", zone=zone, ellps="WGS84", south=south)
