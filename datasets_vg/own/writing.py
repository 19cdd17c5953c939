"""Somebody's own pictures -> a dataset in the folder protocol."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps
from tqdm import tqdm

from datasets_vg.own import film
from datasets_vg.own.collect import HEIC, OwnOptions, collect, spread_of
from datasets_vg.own.shots import Shot
from datasets_vg.own.splitting import assign
from vgbench.data.image_file import open_header, open_image, orientation
from vgbench.data.protocol import ImageName, format_name
from vgbench.data.utm import letter_of, project
from vgbench.errors import UserError
from vgbench.files import write_text

LOG = logging.getLogger(__name__)

MANIFEST = "prepared.json"
_QUALITY = 92  # of pictures that have to be encoded: turned ones, HEIC, frames
_NOTHING_ELSE = (1, None)


def prepare_own(raw: Path, root: Path, options: OwnOptions, transfer: str = "link") -> Path:
    """Make a dataset of the pictures below `raw`, and return its folder `root`.

    It is made as `<root>.partial` and takes its place whole; the same call goes on after an interruption. A dataset
    that is there already is left as it is.

    Args:
        transfer: what becomes of files that need no encoding: "link", "copy" or "move".

    Raises:
        UserError: as `collect` and `assign` do; a file that cannot be written.
    """
    if root.exists():
        LOG.info("%s: is there already, and left as it is; move it away to make it anew", root)
        return root
    shots = collect(raw, options)
    zone, south = spread_of(shots)
    utm = project([s.latitude for s in shots], [s.longitude for s in shots], zone, south=south)
    where = assign(shots, utm, options.split, options.buffer)
    targets: dict[str, Shot] = {}
    for shot, (east, north), place in zip(shots, utm.tolist(), where, strict=True):
        if place is not None:
            targets[f"images/{place[0]}/{place[1]}/{_name(shot, east, north, zone, south)}"] = shot
    partial = root.with_name(root.name + ".partial")
    try:
        _write(partial, targets, transfer)
        made = {
            "dataset": root.name,
            "raw": str(raw.resolve()),
            "parts": ["all"],
            "zone": f"{zone}{'S' if south else 'N'}",
        }
        write_text(partial / MANIFEST, json.dumps(made) + "\n")
        partial.rename(root)
    except OSError as error:
        raise UserError(
            f"{partial}: cannot be written ({error.strerror or error}). Expected a folder that you may write, with "
            "space left; the same command goes on from here"
        ) from error
    _say(root, where)
    return root


def _name(shot: Shot, east: float, north: float, zone: int, south: bool) -> str:
    stem, _, frame = shot.name.partition("#") if shot.frame is not None else (shot.name, "", "")
    identity = Path(stem).with_suffix("").as_posix().replace("/", "-").replace("@", "-") + (
        f"_{frame}" if frame else ""
    )
    encoded = shot.frame is not None or shot.source.suffix.lower() in HEIC or _turned(shot.source)
    # The letter says the hemisphere of the metres, which is one for all.
    band = min(shot.latitude, -1e-9) if south else max(shot.latitude, 0.0)
    return format_name(
        ImageName(
            utm_east=east,
            utm_north=north,
            zone_number=zone,
            zone_letter=letter_of(band),
            latitude=shot.latitude,
            longitude=shot.longitude,
            pano_id=identity,
            heading=shot.heading if math.isfinite(shot.heading) else None,
            height=round(shot.altitude, 1) if math.isfinite(shot.altitude) else None,
            timestamp="" if shot.time is None else shot.time.strftime("%Y%m%d_%H%M%S"),
            extension=".jpg" if encoded else shot.source.suffix.lower(),
        )
    )


def _turned(source: Path) -> bool:
    try:
        with open_header(source) as image:
            return orientation(image) not in _NOTHING_ELSE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _write(partial: Path, targets: dict[str, Shot], transfer: str) -> None:
    left = {target: shot for target, shot in targets.items() if not os.path.lexists(partial / target)}
    for folder in {(partial / target).parent for target in left}:
        folder.mkdir(parents=True, exist_ok=True)
    films: dict[Path, dict[int, str]] = {}
    with tqdm(total=len(left), desc="pictures", unit="image", disable=None) as bar:
        for target, shot in left.items():
            if shot.frame is not None:
                films.setdefault(shot.source, {})[shot.frame] = target
                continue
            _place(shot.source, partial / target, transfer)
            bar.update()
        for video, wanted in films.items():
            for frame, picture in film.frames(video, list(wanted)):
                _save(picture, partial / wanted[frame])
                bar.update()


def _place(source: Path, target: Path, transfer: str) -> None:
    """Put a photograph in its place; one that lies, or that the loaders do not read, is turned and encoded."""
    if source.suffix.lower() in HEIC or _turned(source):
        try:
            with open_image(source) as image:
                _save(ImageOps.exif_transpose(image), target)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{source}: cannot be read as an image ({error}). Expected a whole file; remove it"
            ) from error
    elif transfer == "link":
        target.symlink_to(source.resolve())
    elif transfer == "copy":
        unfinished = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(source, unfinished)
        unfinished.replace(target)
    else:
        shutil.move(source, target)


def _save(picture: Image.Image, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.tmp")
    picture.convert("RGB").save(unfinished, "JPEG", quality=_QUALITY)
    unfinished.replace(target)


def _say(root: Path, where: Sequence[tuple[str, str] | None]) -> None:
    counts = Counter(f"{place[0]}/{place[1]}" for place in where if place is not None)
    LOG.info("%s: %s", root, ", ".join(f"{count} {folder}" for folder, count in sorted(counts.items())))
    lost = sum(place is None for place in where)
    if lost:
        LOG.info("%s: %d pictures left out, since they are near those of another split (--buffer)", root, lost)
