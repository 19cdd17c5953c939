"""Folders of photographs without coordinates: targets of domain adaptation, and photographs to be placed."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np

from vgbench.data.listing import IMAGE_EXTENSIONS, left_out_line, report_left_out, walk
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.data.verify import check_images
from vgbench.errors import UserError

_WORKERS = 8  # processes that check images, at most the machine's cores


def read_unlabelled(
    folder: Path, option: str, most: int | None = None, on_bad_image: str = "skip", num_workers: int = _WORKERS
) -> ImageTable:
    """Return the readable images below a folder, at any depth, sorted, turned upright; their UTM is NaN.

    Args:
        folder: any layout, any names; hidden files are left out, links to folders are followed.
        option: the flag that named the folder, for messages.
        most: take this many images, evenly spread over the sorted names; None: all.
        on_bad_image: "skip", or "error" to refuse a folder with an unreadable image.
        num_workers: processes that check the images.

    Raises:
        UserError: no such folder, no image in it, or images that are not readable (with "skip": all of them).
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"{option} {folder}: no such folder. Expected a folder of images, in any layout")
    builder, left_out = TableBuilder(), Counter[str]()
    for relative in walk(os.fsencode(folder), left_out):
        builder.add(os.fsdecode(relative), math.nan, math.nan)
    if not len(builder):
        others = f"; {left_out_line(folder, left_out)}" if left_out else ""
        raise UserError(
            f"{option} {folder}: no images in it. Expected {', '.join(IMAGE_EXTENSIONS)} files, in any layout{others}"
        )
    report_left_out(folder, left_out)
    table = builder.build(folder, upright=True)
    if most is not None and len(table) > most:
        table = table.select(np.linspace(0, len(table) - 1, most).round().astype(np.int64))
    return check_images(table, on_bad_image, num_workers)
