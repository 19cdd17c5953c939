"""Eynsham (Cummins and Newman, 2009): two rounds of one road, five cameras each time."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.images import as_rgb
from datasets_vg.prepare.naming import at_degrees, protocol_name
from datasets_vg.prepare.run import FromRaw
from vgbench.errors import UserError

CAMERAS = 5
FIRST_ROUND = 4787
"""Positions of the first round, which is the database."""
_TRACK_LINE = 11
_SURPLUS = 2


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield five images a position of the track but the first, whose files are of no use; raises MissingRawError."""
    del name, part
    images = raw.find("Eynsham/Images", "Images", folder=True)
    track = raw.find("Eynsham/Route_map/Eynsham.kml", "Route_map/Eynsham.kml", "Eynsham.kml")
    if images is None or track is None:
        missing = [text for text, found in (("Images", images), ("Route_map/Eynsham.kml", track)) if found is None]
        raise MissingRawError(f"{raw}: Eynsham/{' and Eynsham/'.join(missing)} not there")
    files = sorted(images.glob("*.ppm"))[CAMERAS:]
    positions = read_track(track)
    if len(files) < CAMERAS * len(positions):
        raise MissingRawError(
            f"{images}: {len(files) + CAMERAS} .ppm there, {CAMERAS * (len(positions) + 1)} expected for the "
            f"{len(positions)} positions of {track.name}"
        )
    for n, (latitude, longitude) in enumerate(positions):
        place = at_degrees(latitude, longitude)
        folder = "database" if n < FIRST_ROUND else "queries"
        for tile, file in enumerate(files[CAMERAS * n : CAMERAS * (n + 1)]):
            target = protocol_name(place, f"{n:04d}", tile_num=tile, timestamp=taken(file))
            yield Picture(f"images/test/{folder}/{target}", str(file), functools.partial(as_rgb, file))


def read_track(file: Path) -> list[tuple[float, float]]:
    """Return latitude and longitude, degrees, of the positions in a KML file but the last two; raises UserError."""
    lines = file.read_text("utf-8").splitlines()
    from_there = "\n".join(lines[_TRACK_LINE:])
    found = re.search(r"<coordinates>(.*?)</coordinates>", from_there, re.DOTALL)
    try:
        texts = found[1].split()[:-_SURPLUS] if found else []
        pairs = [tuple(map(float, text.split(",")[:2])) for text in texts]
        if pairs:
            return [(latitude, longitude) for longitude, latitude in pairs]
    except ValueError:
        found = None
    raise UserError(f"{file}: Expected <coordinates> of longitude,latitude,altitude from line {_TRACK_LINE + 1} on")


def taken(file: Path) -> str:
    """Return when an image was taken, YYYYMMDD_hhmmss (UTC), by its name grab_<seconds>; raises UserError."""
    match = re.search(r"grab_(\d+)", file.name)
    if match is None:
        raise UserError(f"{file}: Expected a name with grab_<seconds> in it")
    return datetime.datetime.fromtimestamp(int(match[1]), datetime.timezone.utc).strftime("%Y%m%d_%H%M%S")


PREPARER = FromRaw(arrange)
