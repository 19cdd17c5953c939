"""Views cut out of SF-XL's panoramas, twelve each, with headings clockwise from north of their centres."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from datasets_vg.choices import AUTO, HEADINGS
from datasets_vg.prepare.base import MissingRawError, Picture, Raw, files_below
from vgbench.data.heading_sense import sense_of_panoramas
from vgbench.data.headings import CROP_WIDTH, PANORAMA_WIDTH
from vgbench.data.image_file import open_image
from vgbench.data.protocol import format_name, parse_name
from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

VIEWS = 12
"""Of one panorama, 30 degrees apart, as SF-XL's own crops are."""
FOLDER = "panoramas"
_ASKED = 200_000
"""Panoramas whose names are looked at, at most."""


def arrange_panoramas(raw: Raw, headings: str = AUTO) -> Iterator[Picture]:
    """Yield the views of the panoramas below the raw folders; a dataset of its own, sf_xl/panoramas.

    Args:
        raw: where they are.
        headings: how those of the centres turn, one of HEADINGS; "auto": as the streets say that the panoramas lie in
            (`vgbench.data.heading_sense`), clockwise where they do not.
    """
    files = [Path(path) for root in raw.roots for path in files_below(root, ".jpg", ".jpeg", ".png")]
    if not files:
        raise MissingRawError(f"{raw}: no panoramas (3328x512, named @UTM_east@UTM_north@...@heading@...@.jpg)")
    clockwise = _turn_clockwise(raw, files) if headings == AUTO else headings == HEADINGS[1]
    return (picture for file in files for picture in _views(file, clockwise))


def _turn_clockwise(raw: Raw, files: Sequence[Path]) -> bool:
    names = [parse_name(files[i].name) for i in range(0, len(files), -(-len(files) // _ASKED))]
    utm = np.array([(name.utm_east, name.utm_north) for name in names], np.float64)
    heading = np.array([np.nan if name.heading is None else name.heading for name in names], np.float64)
    votes = sense_of_panoramas(utm, heading)
    clockwise = votes.settled is not False
    why = f"their streets: {votes}"
    if votes.settled is None:
        why = f"as EigenPlaces was trained; their streets do not say it, {votes}; --headings has the other reading"
    LOG.info("%s: headings of panoramas turn %s (%s)", raw, HEADINGS[1 if clockwise else 2], why)
    return clockwise


def _views(file: Path, clockwise: bool) -> Iterator[Picture]:
    name = parse_name(file.name)
    if name.heading is None:
        raise UserError(f"{file}: no heading in its name. Expected that of the panorama's centre in field 9")
    centre = name.heading if clockwise else -name.heading
    for number in range(VIEWS):
        turn = 360.0 * number / VIEWS
        heading = (centre + turn) % 360
        target = format_name(replace(name, heading=heading, tile_num=f"{number:02d}", extension=".jpg"))
        yield Picture(f"{FOLDER}/images/train/{target}", str(file), functools.partial(_cut_file, file, turn))


def _cut_file(file: Path, turn: float) -> Image.Image:
    with open_image(file) as image:
        return cut(image.convert("RGB"), turn)


def cut(panorama: Image.Image, turn: float) -> Image.Image:
    """Cut the view out of a panorama whose centre is `turn` degrees to the right of the panorama's own.

    It is as wide as SF-XL's crops, 512 of 3328 columns, and goes on at the other end where it crosses the border.
    """
    width = round(panorama.width * CROP_WIDTH / PANORAMA_WIDTH)
    left = round(panorama.width * (0.5 + turn / 360.0) - width / 2)
    columns = np.arange(left, left + width) % panorama.width
    return Image.fromarray(np.asarray(panorama)[:, columns])
