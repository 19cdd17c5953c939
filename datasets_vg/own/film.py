"""Films: a frame every few metres of the track that goes with them."""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
from PIL import Image

from datasets_vg.own.shots import Shot
from datasets_vg.own.tracks import Track
from vgbench.data.utm import project, zone_of
from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

EXTENSIONS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
_EPOCH = datetime.datetime(1970, 1, 1)


def film_shots(video: Path, name: str, track: Track, step: float, start: datetime.datetime | None) -> list[Shot]:
    """Return the frames of a film that lie `step` metres or more apart along its track, in their order.

    A frame's heading is the direction of travel.

    Args:
        video: the film.
        name: its path, for the frames' names.
        track: by the seconds of the film, or by a clock; then the film begins at `start`, or where that is None with
            the track.
        step: metres.

    Raises:
        UserError: the film cannot be read.
    """
    count, rate = _length(video)
    begin = track.seconds[0] if start is None else (start - _EPOCH).total_seconds()
    offset = float(begin) if track.clock else 0.0
    kept: list[tuple[int, float, float, float, tuple[float, float]]] = []
    zone = zone_of(float(track.degrees[0, 1]), float(track.degrees[0, 0]))
    south = float(track.degrees[0, 0]) < 0
    off = 0
    for frame in range(count):
        found = track.at(offset + frame / rate, gap=1.0)
        if found is None:
            off += 1
            continue
        [[east, north]] = project([found[0]], [found[1]], zone, south=south)
        if not kept or math.hypot(east - kept[-1][4][0], north - kept[-1][4][1]) >= step:
            kept.append((frame, *found, (float(east), float(north))))
    shots = []
    for number, (frame, latitude, longitude, altitude, at) in enumerate(kept):
        before, after = kept[max(number - 1, 0)][4], kept[min(number + 1, len(kept) - 1)][4]
        travel = (after[0] - before[0], after[1] - before[1]) if number else (after[0] - at[0], after[1] - at[1])
        heading = math.degrees(math.atan2(*travel)) % 360 if any(travel) else math.nan
        moment = _EPOCH + datetime.timedelta(seconds=offset + frame / rate) if track.clock else None
        shots.append(Shot(video, f"{name}#{frame:06d}", latitude, longitude, heading, altitude, moment, moment, frame))
    if off:
        text = "%s: %.0f of its %.0f s are left out, since %s says nothing of them"
        LOG.warning(text, video, off / rate, count / rate, track.file.name)
    LOG.info("%s: %d of %d frames, %g m apart, by %s", video, len(shots), count, step, track.file.name)
    return shots


def frames(video: Path, wanted: list[int]) -> Iterator[tuple[int, Image.Image]]:
    """Yield (number, picture) of some frames of a film, in ascending order, decoding none of the others.

    Raises:
        UserError: a frame cannot be decoded.
    """
    film = cv2.VideoCapture(str(video))
    position = 0
    try:
        for frame in sorted(wanted):
            while position <= frame:
                if not film.grab():
                    raise UserError(f"{video}: ends at frame {position}. Expected {frame + 1} or more; is it whole?")
                position += 1
            decoded, pixels = film.retrieve()
            if not decoded:
                raise UserError(f"{video}: frame {frame} cannot be decoded. Expected a whole film")
            yield frame, Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    finally:
        film.release()


def _length(video: Path) -> tuple[int, float]:
    film = cv2.VideoCapture(str(video))
    count, rate = int(film.get(cv2.CAP_PROP_FRAME_COUNT)), film.get(cv2.CAP_PROP_FPS)
    film.release()
    if count < 1 or not rate > 0:
        raise UserError(f"{video}: cannot be read as a film. Expected one of {', '.join(EXTENSIONS)} that OpenCV reads")
    return count, float(rate)
