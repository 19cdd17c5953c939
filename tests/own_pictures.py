"""Photographs with EXIF, tracks and films, made small."""

from __future__ import annotations

import datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from vgbench.data.utm import to_latitude_longitude

START = datetime.datetime(2024, 5, 17, 10, 0, 0)


def along(metres: float) -> tuple[float, float]:
    """A position on a street that runs east through Cambridge: latitude and longitude, degrees."""
    latitude, longitude = to_latitude_longitude(303_000 + metres, 5_787_800, 31, "U")
    return float(latitude), float(longitude)


def picture(number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    pattern = np.random.default_rng(number).integers(30, 225, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(pattern).resize(size, Image.Resampling.BILINEAR)


def exif(
    where: tuple[float, float] | None = None,
    *,
    time: datetime.datetime | None = None,
    offset: str = "",
    altitude: float | None = None,
    heading: float | None = None,
    turn: int = 1,
) -> Image.Exif:
    made = Image.Exif()
    made[0x010F] = "camera"  # without any tag of the picture itself Pillow writes none to PNG
    if turn != 1:
        made[0x0112] = turn
    if where is not None:
        gps = made.get_ifd(0x8825)
        for reference, value, degrees in ((1, "NS", where[0]), (3, "EW", where[1])):
            gps[reference] = value[degrees < 0]
            gps[reference + 1] = _sexagesimal(abs(degrees))
        if altitude is not None:
            gps[5], gps[6] = bytes([altitude < 0]), IFDRational(Fraction(abs(altitude)).limit_denominator(100))
        if heading is not None:
            gps[16], gps[17] = "T", IFDRational(Fraction(heading).limit_denominator(100))
    if time is not None:
        camera = made.get_ifd(0x8769)
        camera[0x9003] = time.strftime("%Y:%m:%d %H:%M:%S")
        if offset:
            camera[0x9011] = offset
    return made


def _sexagesimal(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    whole, rest = divmod(degrees, 1)
    minutes, rest = divmod(rest * 60, 1)
    return IFDRational(int(whole)), IFDRational(int(minutes)), IFDRational(round(rest * 60 * 10**5), 10**5)


def write_gpx(path: Path, points: list[tuple[float, tuple[float, float]]]) -> None:
    """Write (seconds after START, position) as a track, in UTC."""
    lines = "".join(
        f'<trkpt lat="{lat:.7f}" lon="{lon:.7f}"><ele>12.5</ele>'
        f"<time>{(START + datetime.timedelta(seconds=seconds)).isoformat()}Z</time></trkpt>"
        for seconds, (lat, lon) in points
    )
    path.write_text(
        '<?xml version="1.0"?><gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
        f"{lines}</trkseg></trk></gpx>"
    )


def write_film(path: Path, frames: int, rate: float = 10.0) -> None:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.asarray(picture(number // 10))[:, :, ::-1].copy())
    writer.release()
