"""The options of `prepare folder` on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets_vg.choices import WAYS
from vgbench.errors import UserError

NAME = "folder"
"""What is prepared, where others are names of datasets."""
_GIVEN = ("positions", "track", "utc_offset", "max_gap", "step", "split", "buffer")
_FARTHEST_CLOCK = 1e6  # hours, of a camera whose date was never set
_RESERVED = ("", ".", "..", NAME)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only `prepare folder` has."""
    group = parser.add_argument_group(
        "your own pictures: prepare folder --raw PHOTOS --name my_town",
        "Photographs with GPS in their EXIF, or with a CSV (name,lat,lon[,heading,time,altitude,split,part]), or with "
        "a GPX track of the same time; films with a track beside them (drive.mp4 and drive.gpx, .csv or .srt).",
    )
    group.add_argument("--name", dest="own_name", metavar="NAME", help="of the dataset that is made")
    group.add_argument(
        "--positions", type=Path, metavar="FILE", help="CSV of positions by file name (default: those there)"
    )
    group.add_argument("--track", type=Path, metavar="FILE", help="GPX or CSV by time (default: the GPX files there)")
    group.add_argument(
        "--utc_offset", type=float, metavar="HOURS",
        help="by which the camera's clock is ahead of UTC, where its EXIF does not say (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--max_gap", type=float, metavar="SECONDS",
        help="between a photograph and the nearest point of a track, at most (default: 30)",
    )  # fmt: skip
    group.add_argument("--step", type=float, metavar="METRES", help="between the frames of a film (default: 5)")
    group.add_argument(
        "--split", choices=WAYS,
        help="date: all are test, the last day's are queries (of one day, every fourth); area: train, val and test are "
        "parts of the region; hand: folders such as train/database, or the CSV's columns (default: date)",
    )  # fmt: skip
    group.add_argument(
        "--buffer", type=float, metavar="METRES", help="between pictures of two splits, at least (default: 25)"
    )


def prepare_from(options: argparse.Namespace, datasets_folder: Path, transfer: str = "link") -> Path:
    """Make a dataset of somebody's own pictures as the command line says; returns its folder. Raises UserError."""
    raw: Path | None = getattr(options, "raw", None)
    if raw is None:
        raise UserError("prepare folder: no --raw. Expected the folder of your pictures: --raw PHOTOS --name my_town")
    name: str = options.own_name or ""
    if name in _RESERVED or "/" in name or name.startswith("."):
        raise UserError(f"prepare folder: --name {name or 'is missing'}. Expected a name for the dataset")
    given = {key: getattr(options, key) for key in _GIVEN if getattr(options, key) is not None}
    for key in ("max_gap", "step", "buffer"):
        if key in given and not 0 <= given[key] < float("inf"):
            raise UserError(f"--{key} {given[key]}: out of range. Expected 0 or more")
    if not abs(given.get("utc_offset", 0.0)) <= _FARTHEST_CLOCK:
        raise UserError(f"--utc_offset {given['utc_offset']}: out of range. Expected hours, such as 2 or -5.5")
    from datasets_vg.own.collect import OwnOptions
    from datasets_vg.own.writing import prepare_own

    return prepare_own(raw.expanduser(), datasets_folder / name, OwnOptions(**given), transfer)


def refuse_own(options: argparse.Namespace) -> None:
    """Raise UserError where an option of `prepare folder` is given for another dataset."""
    for key in ("own_name", *_GIVEN):
        if getattr(options, key) is not None:
            flag = key.removeprefix("own_")
            raise UserError(f"--{flag}: is of `prepare folder`, not of `prepare {options.name}`. Leave it out")
