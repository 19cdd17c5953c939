"""One picture with its position, whatever told it."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Shot:
    """A photograph, or a frame of a film, and what is known of it.

    Attributes:
        source: the file.
        name: its path below the folder that it was found in, with forward slashes.
        latitude, longitude: degrees, NaN where unknown.
        heading: degrees clockwise from north, NaN where unknown.
        altitude: metres, NaN where unknown.
        time: as the camera's clock showed it.
        utc: the same moment in UTC, None where the zone is not known.
        frame: of a film.
        split, part: where a table wants it ("train", "database").
    """

    source: Path
    name: str
    latitude: float = math.nan
    longitude: float = math.nan
    heading: float = math.nan
    altitude: float = math.nan
    time: datetime.datetime | None = None
    utc: datetime.datetime | None = None
    frame: int | None = None
    split: str = ""
    part: str = ""

    @property
    def located(self) -> bool:
        """Whether its position is known."""
        return math.isfinite(self.latitude) and math.isfinite(self.longitude)

    @property
    def day(self) -> str:
        """The day it was taken, YYYYMMDD, '' where unknown."""
        return "" if self.time is None else self.time.strftime("%Y%m%d")

    def at(self, latitude: float, longitude: float, altitude: float = math.nan, heading: float = math.nan) -> Shot:
        """Return the same at another position; an altitude or heading that is not known leaves the one that is."""
        return replace(
            self,
            latitude=latitude,
            longitude=longitude,
            altitude=altitude if math.isfinite(altitude) else self.altitude,
            heading=heading if math.isfinite(heading) else self.heading,
        )
