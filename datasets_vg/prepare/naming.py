"""Names in the folder protocol, byte for byte as the published preparers write them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vgbench.data.protocol import ImageName, format_name
from vgbench.data.utm import from_latitude_longitude, to_latitude_longitude


@dataclass(frozen=True)
class Place:
    """A position, as the two UTM values, the zone and the degrees of a name."""

    east: float
    north: float
    zone: int | None = None
    letter: str = ""
    latitude: float | None = None
    longitude: float | None = None


def at_degrees(latitude: float, longitude: float) -> Place:
    """Return the position at a latitude and a longitude, in degrees."""
    utm = from_latitude_longitude(latitude, longitude)
    return Place(utm.east, utm.north, utm.zone, utm.letter, latitude, longitude)


def at_utm(east: float, north: float, zone: int, letter: str) -> Place:
    """Return the position at UTM metres; they go through degrees and back, as the published preparers have it."""
    latitude, longitude = (float(value) for value in to_latitude_longitude(east, north, zone, letter))
    utm = from_latitude_longitude(latitude, longitude, zone)
    return Place(utm.east, utm.north, zone, letter, latitude, longitude)


def protocol_name(
    place: Place,
    pano_id: str = "",
    *,
    tile_num: int | None = None,
    heading: float | None = None,
    pitch: float | None = None,
    timestamp: str = "",
    note: str = "",
) -> str:
    """Return a file name: heading and pitch are cut to whole degrees (not rounded), tile_num has two digits.

    Raises:
        UserError: a text with `@` or `/` in it, coordinates that are not finite.
    """
    return format_name(
        ImageName(
            place.east,
            place.north,
            place.zone,
            place.letter,
            place.latitude,
            place.longitude,
            pano_id,
            "" if tile_num is None else f"{tile_num:02d}",
            None if heading is None or not math.isfinite(heading) else float(math.trunc(heading)),
            None if pitch is None or not math.isfinite(pitch) else float(math.trunc(pitch)),
            timestamp=timestamp,
            note=note,
        )
    )


def pair_name(north: str, pano_id: str) -> str:
    """Return the name of an image of a set without geography: a made-up north in metres, as it is to be written."""
    return f"@0@{north}@@@@@{pano_id}@@@@@@@@.jpg"


def timestamp_of(text: str) -> str:
    """Return a date or a date and time (2019-02-03, 2019-02-03 04:05:06) as YYYYMMDD_hhmmss, as far as it is given."""
    day, _, time = text.strip().replace("T", " ").partition(" ")
    digits = "".join(c for c in day if c.isdigit()), "".join(c for c in time.partition(".")[0] if c.isdigit())
    return "_".join(part for part in digits if part)
