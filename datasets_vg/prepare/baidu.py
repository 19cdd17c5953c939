"""Baidu Mall (Sun et al., 2017): a shopping mall, cameras in metres of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from datasets_vg.prepare.base import MissingRawError, Picture, Raw, files_below
from datasets_vg.prepare.images import as_rgb
from datasets_vg.prepare.naming import Place, protocol_name
from datasets_vg.prepare.run import FromRaw
from vgbench.errors import UserError

FOLDERS = {"database": ("training_images_undistort", "training_gt"), "queries": ("query_images_undistort", "query_gt")}


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield training images (database) and queries at the camera centres; raises MissingRawError."""
    del name, part
    names = [folder for pair in FOLDERS.values() for folder in pair]
    found = {folder: raw.find(folder, folder=True) for folder in names}
    missing = [folder for folder, path in found.items() if path is None]
    if missing:
        raise MissingRawError(f"{raw}: {', '.join(missing)} not there")
    for level, (images, cameras) in FOLDERS.items():
        above = found[cameras]
        assert above is not None
        for source in files_below(Path(str(found[images])), ".jpg", ".jpeg", ".png"):
            file = Path(source)
            target = protocol_name(read_camera(above / f"{file.stem}.camera"), file.stem)
            encode = functools.partial(as_rgb, file) if file.suffix.lower() == ".png" else None
            yield Picture(f"images/test/{level}/{target}", source, encode)


def read_camera(file: Path) -> Place:
    """Return the position of a camera: two of the three metres in the last but one line; raises UserError."""
    try:
        lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
        east, north = map(float, lines[-2].split()[:2])
    except FileNotFoundError as error:
        raise MissingRawError(f"{file}: not there") from error
    except (IndexError, ValueError) as error:
        raise UserError(f"{file}: Expected the camera's centre, x y z, in the last but one line") from error
    return Place(east, north)


PREPARER = FromRaw(arrange)
