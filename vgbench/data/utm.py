"""Universal Transverse Mercator on the WGS84 ellipsoid, both ways, to well under a millimetre inside a zone.

Source: L. Krueger's series in the third flattening n, to order n^6 (C. Karney, "Transverse Mercator with an accuracy of
a few nanometers", 2011, equations 35 and 36).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vgbench.data.protocol import ImageName, parse_name
from vgbench.data.table import ImageTable

SCALE = 0.9996
FALSE_EASTING = 500_000.0
FALSE_NORTHING_SOUTH = 10_000_000.0
LETTERS = "CDEFGHJKLMNPQRSTUVWX"

_EQUATORIAL_RADIUS = 6_378_137.0
_FLATTENING = 1 / 298.257223563
_N = _FLATTENING / (2 - _FLATTENING)
_RADIUS = _EQUATORIAL_RADIUS / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64 + _N**6 / 256)
_ECCENTRICITY = math.sqrt(_FLATTENING * (2 - _FLATTENING))


def _series(rows: list[list[float]]) -> list[float]:
    """Evaluate polynomials in n: row j holds the coefficients of n^(j+1), n^(j+2), ..."""
    return [sum(c * _N ** (j + 1 + i) for i, c in enumerate(row)) for j, row in enumerate(rows)]


_ALPHA = _series(
    [
        [1 / 2, -2 / 3, 5 / 16, 41 / 180, -127 / 288, 7891 / 37800],
        [13 / 48, -3 / 5, 557 / 1440, 281 / 630, -1983433 / 1935360],
        [61 / 240, -103 / 140, 15061 / 26880, 167603 / 181440],
        [49561 / 161280, -179 / 168, 6601661 / 7257600],
        [34729 / 80640, -3418889 / 1995840],
        [212378941 / 319334400],
    ]
)
_BETA = _series(
    [
        [1 / 2, -2 / 3, 37 / 96, -1 / 360, -81 / 512, 96199 / 604800],
        [1 / 48, 1 / 15, -437 / 1440, 46 / 105, -1118711 / 3870720],
        [17 / 480, -37 / 840, -209 / 4480, 5569 / 90720],
        [4397 / 161280, -11 / 504, -830251 / 7257600],
        [4583 / 161280, -108847 / 3991680],
        [20648693 / 638668800],
    ]
)


class Utm(NamedTuple):
    """One position: metres east and north, the zone (1..60) and its latitude band letter."""

    east: float
    north: float
    zone: int
    letter: str


def zone_of(longitude: float) -> int:
    """Return the regular six-degree zone of a longitude in degrees (the exceptions of Norway are left out)."""
    return int((longitude + 180) // 6) % 60 + 1


def letter_of(latitude: float) -> str:
    """Return the latitude band letter of a latitude in degrees within -80..84."""
    return LETTERS[min(int((latitude + 80) // 8), len(LETTERS) - 1)]


def from_latitude_longitude(latitude: float, longitude: float, zone: int | None = None) -> Utm:
    """Project degrees to UTM metres; `zone` forces a neighbouring zone."""
    zone = zone_of(longitude) if zone is None else zone
    phi, lam = math.radians(latitude), math.radians(longitude - _central_meridian(zone))
    t = math.sinh(math.atanh(math.sin(phi)) - _ECCENTRICITY * math.atanh(_ECCENTRICITY * math.sin(phi)))
    xi_, eta_ = math.atan2(t, math.cos(lam)), math.asinh(math.sin(lam) / math.hypot(t, math.cos(lam)))
    xi, eta = xi_, eta_
    for j, a in enumerate(_ALPHA, 1):
        xi += a * math.sin(2 * j * xi_) * math.cosh(2 * j * eta_)
        eta += a * math.cos(2 * j * xi_) * math.sinh(2 * j * eta_)
    letter = letter_of(latitude)
    # By the letter, not by the sign: a latitude a rounding below 0 is in band N.
    north = SCALE * _RADIUS * xi + (0.0 if letter >= "N" else FALSE_NORTHING_SOUTH)
    return Utm(FALSE_EASTING + SCALE * _RADIUS * eta, north, zone, letter)


def to_latitude_longitude(
    east: ArrayLike, north: ArrayLike, zone: int, letter: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return latitude and longitude in degrees (float64) of UTM positions in metres, scalars or arrays alike."""
    north = np.asarray(north, np.float64) - (0.0 if letter.upper() >= "N" else FALSE_NORTHING_SOUTH)
    xi, eta = north / (SCALE * _RADIUS), (np.asarray(east, np.float64) - FALSE_EASTING) / (SCALE * _RADIUS)
    xi_, eta_ = xi, eta
    for j, b in enumerate(_BETA, 1):
        xi_ = xi_ - b * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
        eta_ = eta_ - b * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
    tau_ = np.sin(xi_) / np.hypot(np.sinh(eta_), np.cos(xi_))
    lam = np.arctan2(np.sinh(eta_), np.cos(xi_))
    return np.degrees(np.arctan(_geodetic_tangent(tau_))), np.degrees(lam) + _central_meridian(zone)


def _central_meridian(zone: int) -> float:
    return (zone - 1) * 6 - 180 + 3


def _geodetic_tangent(conformal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return tan(latitude) from tan(conformal latitude) by Newton's method (Karney, equations 19 to 21)."""
    tau = conformal
    e2 = _ECCENTRICITY**2
    for _ in range(4):
        root = np.sqrt(1 + tau**2)
        sigma = np.sinh(_ECCENTRICITY * np.arctanh(_ECCENTRICITY * tau / root))
        value = tau * np.sqrt(1 + sigma**2) - sigma * root
        slope = (1 + (1 - e2) * tau**2) / ((1 - e2) * np.sqrt(1 + value**2) * root)
        tau = tau + (conformal - value) * slope
    return tau


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
