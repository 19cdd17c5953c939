"""St Lucia (Milford and Wyeth, 2008): frames of two drives' videos, one every five metres."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
from PIL import Image

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.naming import Place, at_degrees, protocol_name
from datasets_vg.prepare.run import FromRaw
from vgbench.errors import UserError

logger = logging.getLogger(__name__)

RUNS = {"database": "100909_0845", "queries": "210809_1210"}
STEP = 5.0
"""Metres from one kept frame to the next."""
VIDEO, TRACK = "webcam_video.avi", "fGPS.txt"


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the frames of the first run (database) and the last one (queries); raises MissingRawError without them."""
    del name, part
    found = {folder: (raw.find(f"{run}/{VIDEO}"), raw.find(f"{run}/{TRACK}")) for folder, run in RUNS.items()}
    files = [
        f"{run}/{name}"
        for folder, run in RUNS.items()
        for name, path in zip((VIDEO, TRACK), found[folder], strict=True)
        if path is None
    ]
    if files:
        raise MissingRawError(f"{raw}: {', '.join(files)} not there")
    for folder, (video, track) in found.items():
        if video is not None and track is not None:
            yield from _frames(video, read_track(track), RUNS[folder], f"images/test/{folder}")


def read_track(file: Path) -> list[Place]:
    """Return a position per frame (the file leaves out the minus of the latitude); raises UserError."""
    try:
        pairs = [line.split(",")[:2] for line in file.read_text("utf-8").splitlines() if line.strip()]
        return [at_degrees(-abs(float(latitude)), float(longitude)) for latitude, longitude in pairs]
    except ValueError as error:
        raise UserError(f"{file}: Expected lines of latitude,longitude") from error


def kept_frames(track: list[Place]) -> list[int]:
    """Return the first frame and each one that is STEP metres or more from the last kept one."""
    kept: list[int] = []
    for frame, place in enumerate(track):
        last = track[kept[-1]] if kept else None
        if last is None or math.hypot(place.east - last.east, place.north - last.north) >= STEP:
            kept.append(frame)
    return kept


def _frames(video: Path, track: list[Place], run: str, target: str) -> Iterator[Picture]:
    film = cv2.VideoCapture(str(video))
    try:
        position = 0
        for frame in kept_frames(track):
            while position <= frame:
                if not film.grab():
                    logger.warning("%s: ends at frame %d, before its track of %d", video, position, len(track))
                    return
                position += 1
            decoded, pixels = film.retrieve()
            if not decoded:
                raise UserError(f"{video}: frame {frame} cannot be decoded. Expected a whole video; fetch it again")
            name = protocol_name(track[frame], f"{run}_{frame:05d}")
            image = functools.partial(Image.fromarray, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            yield Picture(f"{target}/{name}", str(video), image)
    finally:
        film.release()


PREPARER = FromRaw(arrange)
