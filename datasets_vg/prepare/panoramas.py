"""Views cut out of SF-XL's panoramas, twelve each, with headings clockwise from north of their centres."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from datasets_vg.prepare.base import MissingRawError, Picture, Raw, files_below
from vgbench.data.headings import CROP_WIDTH, PANORAMA_WIDTH
from vgbench.data.image_file import open_image
from vgbench.data.protocol import format_name, parse_name
from vgbench.errors import UserError

VIEWS = 12
"""Of one panorama, 30 degrees apart, as SF-XL's own crops are."""
FOLDER = "panoramas"


def arrange_panoramas(raw: Raw) -> Iterator[Picture]:
    """Yield the views of the panoramas below the raw folders; a dataset of its own, sf_xl/panoramas.

    A panorama's heading is that of its centre, counter-clockwise, as SF-XL's README says (`vgbench.data.headings`).
    """
    files = [Path(path) for root in raw.roots for path in files_below(root, ".jpg", ".jpeg", ".png")]
    if not files:
        raise MissingRawError(f"{raw}: no panoramas (3328x512, named @UTM_east@UTM_north@...@heading@...@.jpg)")
    return (picture for file in files for picture in _views(file))


def _views(file: Path) -> Iterator[Picture]:
    name = parse_name(file.name)
    if name.heading is None:
        raise UserError(f"{file}: no heading in its name. Expected that of the panorama's centre in field 9")
    for number in range(VIEWS):
        turn = 360.0 * number / VIEWS
        heading = (-name.heading + turn) % 360
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
