"""What a camera or a phone wrote into a photograph: where, how high, which way and when."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgbench.data.image_file import open_header
from vgbench.data.table import ImageTable

UTC = datetime.timezone.utc
_GPS, _EXIF = 0x8825, 0x8769
_TAKEN, _OFFSET = 0x9003, 0x9011  # DateTimeOriginal, OffsetTimeOriginal
_READERS = 8


@dataclass(frozen=True)
class Taken:
    """Where and when a photograph was taken; NaN or None where it does not say.

    Attributes:
        latitude, longitude: degrees.
        altitude: metres above the sea.
        heading: degrees clockwise from north, of the picture's centre.
        time: when, as the camera's clock showed it, without a zone; the satellites' time where only that is there.
        utc: the same moment in UTC, where the camera knows its zone or the satellites told.
    """

    latitude: float = math.nan
    longitude: float = math.nan
    altitude: float = math.nan
    heading: float = math.nan
    time: datetime.datetime | None = None
    utc: datetime.datetime | None = None

    @property
    def located(self) -> bool:
        """Whether it says where."""
        return math.isfinite(self.latitude) and math.isfinite(self.longitude)


def read_taken(path: Path) -> Taken:
    """Read the EXIF of a photograph; what cannot be read, or is no position on earth, counts as not said."""
    try:
        with open_header(path) as image:
            exif = image.getexif()
            gps, camera = exif.get_ifd(_GPS), exif.get_ifd(_EXIF)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, Image.DecompressionBombError):
        return Taken()
    latitude = _signed(gps.get(2), gps.get(1), "S")
    longitude = _signed(gps.get(4), gps.get(3), "W")
    if not (abs(latitude) <= 90 and abs(longitude) <= 180) or latitude == longitude == 0:
        latitude = longitude = math.nan  # 0, 0 is what cameras write that have not found satellites
    altitude = _number(gps.get(6))
    if gps.get(5) in (1, b"\x01"):
        altitude = -altitude
    time = _moment(camera.get(_TAKEN) or exif.get(0x0132))
    satellites = _satellite_time(gps)
    zone = _offset(camera.get(_OFFSET))
    utc = satellites or (None if time is None or zone is None else time - zone)
    return Taken(latitude, longitude, altitude, _number(gps.get(17)) % 360, time or satellites, utc)


def located(table: ImageTable) -> NDArray[np.float64]:
    """Read where the photographs of a table were taken: float64 [N,2] latitude and longitude, NaN where unknown."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_READERS) as pool:
        taken = pool.map(read_taken, (table.path(row) for row in range(len(table))))
        return np.array([(one.latitude, one.longitude) for one in taken], np.float64).reshape(-1, 2)


def _signed(value: Any, reference: Any, negative: str) -> float:
    parts = [_number(part) for part in value] if isinstance(value, Iterable) and not isinstance(value, str) else []
    if len(parts) != 3:
        return math.nan
    # Seconds, and minutes, may be missing as 0/0.
    degrees = parts[0] + sum(part / scale for part, scale in zip(parts[1:], (60, 3600), strict=True) if part == part)
    return -degrees if str(reference).strip("\0 ").upper().startswith(negative) else degrees


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan


def _moment(value: Any) -> datetime.datetime | None:
    text = str(value or "").strip("\0 ")[:19]
    for form in ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S"):
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(text, form)
    return None


def _satellite_time(gps: Any) -> datetime.datetime | None:
    date, clock = str(gps.get(29) or "").strip("\0 "), gps.get(7)
    parts = [_number(part) for part in clock] if isinstance(clock, tuple) else []
    try:
        day = datetime.datetime.strptime(date, "%Y:%m:%d")
        return day + datetime.timedelta(hours=parts[0], minutes=parts[1], seconds=parts[2])
    except (ValueError, IndexError, OverflowError):
        return None


def _offset(value: Any) -> datetime.timedelta | None:
    text = str(value or "").strip("\0 ")
    try:
        sign = -1 if text.startswith("-") else 1
        hours, minutes = text.lstrip("+-").split(":")
        return sign * datetime.timedelta(hours=int(hours), minutes=int(minutes))
    except ValueError:
        return None
