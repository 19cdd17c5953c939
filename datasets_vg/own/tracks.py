"""Tracks: positions by time, of a GPS receiver (GPX), a table (CSV), or the subtitles of a film (SRT)."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gpxpy
import numpy as np
from numpy.typing import NDArray

from datasets_vg.own.tables import degrees_of, number_of, read_rows, time_of
from vgbench.errors import UserError

EXTENSIONS = (".gpx", ".csv", ".srt")
_EPOCH = datetime.datetime(1970, 1, 1)
_CUE = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d+)\s*-->")
# Drones write "[latitude: 52.1] [longitude: 0.1]", or "GPS (0.1, 52.1, 17)" with the longitude first.
_LATITUDE = re.compile(r"lat(?:itude)?\s*[:=]\s*([+-]?\d+\.\d+)", re.IGNORECASE)
_LONGITUDE = re.compile(r"lon(?:g|gt|gti|gitude|gtitude)?\w*\s*[:=]\s*([+-]?\d+\.\d+)", re.IGNORECASE)
# Not rel_alt, which is above the ground that the drone started from.
_ALTITUDE = re.compile(r"(?<![a-z_])(?:abs_)?alt(?:itude)?\s*[:=]\s*([+-]?\d+(?:\.\d+)?)", re.IGNORECASE)
_PAIR = re.compile(r"GPS\s*\(\s*([+-]?\d+\.\d+)\s*,\s*([+-]?\d+\.\d+)\s*(?:,\s*([+-]?\d+(?:\.\d+)?))?", re.IGNORECASE)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Track:
    """M positions in the order of time.

    Attributes:
        file: where it was read.
        seconds: float64 [M], ascending: since 1970 in UTC, or since the start of a film.
        degrees: float64 [M,2], latitude and longitude.
        altitude: float64 [M], metres, NaN where unknown.
        clock: whether `seconds` are of a clock, and not of a film.
    """

    file: Path
    seconds: Floats
    degrees: Floats
    altitude: Floats
    clock: bool

    def at(self, seconds: float, gap: float = math.inf) -> tuple[float, float, float] | None:
        """Return latitude, longitude and altitude at a moment, between the points before and after it.

        None outside of the track, or where neither of these points is within `gap` seconds.
        """
        after = int(np.searchsorted(self.seconds, seconds))
        around = self.seconds[max(after - 1, 0) : after + 1]
        if not self.seconds[0] - gap <= seconds <= self.seconds[-1] + gap or np.abs(around - seconds).min() > gap:
            return None
        # Longitudes beside the date line are brought to one side of it first.
        longitude = np.unwrap(self.degrees[:, 1], period=360)
        lat, lon, alt = (np.interp(seconds, self.seconds, v) for v in (self.degrees[:, 0], longitude, self.altitude))
        return float(lat), float((lon + 180) % 360 - 180), float(alt)

    @property
    def span(self) -> str:
        """From when to when it was recorded, in UTC."""
        first, last = (_EPOCH + datetime.timedelta(seconds=float(self.seconds[end])) for end in (0, -1))
        return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def read_track(file: Path) -> Track:
    """Read a track by its extension.

    Raises:
        UserError: it cannot be read, or has fewer than two positions with a time.
    """
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise UserError(f"{file}: no track. Expected one of {', '.join(EXTENSIONS)}")
    points, clock = reader(file)
    points.sort(key=lambda point: point[0])
    distinct = [point for number, point in enumerate(points) if not number or point[0] > points[number - 1][0]]
    if len(distinct) < 2:
        raise UserError(f"{file}: {len(distinct)} positions with a time. Expected two or more, in the order of time")
    values = np.array(distinct, np.float64)
    return Track(file, values[:, 0], values[:, 1:3], values[:, 3], clock)


def seconds_of(moment: datetime.datetime) -> float:
    """Return a moment in UTC as seconds since 1970."""
    return (moment - _EPOCH).total_seconds()


Point = tuple[float, float, float, float]


def _read_gpx(file: Path) -> tuple[list[Point], bool]:
    try:
        with file.open(encoding="utf-8") as stream:
            content = gpxpy.parse(stream)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}). Expected a track of a GPS receiver") from error
    except (UnicodeDecodeError, gpxpy.gpx.GPXException) as error:
        raise UserError(f"{file}: cannot be read as GPX ({error}). Expected a track of a GPS receiver") from error
    recorded = [p for track in content.tracks for segment in track.segments for p in segment.points]
    points = []
    for point in recorded or content.waypoints:
        if point.time is not None:
            moment = point.time
            utc = moment if moment.tzinfo is None else moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
            high = math.nan if point.elevation is None else float(point.elevation)
            points.append((seconds_of(utc), float(point.latitude), float(point.longitude), high))
    return points, True


def _read_csv(file: Path) -> tuple[list[Point], bool]:
    rows = read_rows(file)
    times = [row.get("time", "") for row in rows]
    # Small numbers are seconds of a film, everything else is a moment.
    film = bool(times) and all(re.fullmatch(r"\d{1,6}(\.\d+)?", text) for text in times)
    points = []
    for number, (row, text) in enumerate(zip(rows, times, strict=True), start=2):
        moment = None if film else time_of(text)
        if film or moment is not None:
            seconds = float(text) if moment is None else seconds_of(moment)
            points.append((seconds, *degrees_of(row, f"{file}: line {number}"), number_of(row, "altitude")))
    return points, not film


def _read_srt(file: Path) -> tuple[list[Point], bool]:
    points: list[Point] = []
    seconds: float | None = None
    for line in file.read_text("utf-8-sig", errors="replace").splitlines():
        cue = _CUE.search(line)
        if cue is not None:
            hours, minutes, whole, fraction = cue.groups()
            seconds = int(hours) * 3600 + int(minutes) * 60 + int(whole) + float(f"0.{fraction}")
            continue
        place = _place(line)
        if seconds is not None and place is not None:
            points.append((seconds, *place))
            seconds = None
    return points, False


def _place(line: str) -> tuple[float, float, float] | None:
    """Return latitude, longitude and altitude that a subtitle names."""
    pair, latitude, longitude = _PAIR.search(line), _LATITUDE.search(line), _LONGITUDE.search(line)
    altitude = _ALTITUDE.search(line)
    high = float(altitude[1]) if altitude else math.nan
    if latitude and longitude:
        return float(latitude[1]), float(longitude[1]), high
    if pair:
        return float(pair[2]), float(pair[1]), high if altitude else float(pair[3] or math.nan)
    return None


_READERS: dict[str, Callable[[Path], tuple[list[Point], bool]]] = {
    ".gpx": _read_gpx,
    ".csv": _read_csv,
    ".srt": _read_srt,
}
