"""Trees that somebody made before: by VPR-datasets-downloader, datasets_vg, a course, or a server that has them ready.

They differ in the images/ level, in `gallery` for `database`, and in the order of the fields of a name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from vgbench.data.layout import SPLITS
from vgbench.data.listing import IMAGE_EXTENSIONS
from vgbench.errors import UserError

_LEVELS = {"images", "processed", "small"}
_DEPTH = 4
"""Folders between a split and its images, at most, and one more."""
_LIST = "_images_paths.txt"
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def find_tree(raw: Raw, name: str, splits: Sequence[str] = SPLITS, above: str = "") -> Path | None:
    """Return the folder that has some of the splits as subfolders with named images in them, or None.

    It is the root itself (or its images/, processed/, small/), or lies below a folder of the dataset's name: a folder
    of all downloads has trees of other sets, too.

    Args:
        raw: where to look.
        name: of the dataset.
        splits: one of these must be there.
        above: the folder has this name.
    """
    for root, folder in raw.folders():
        inside = folder.relative_to(root).parts
        if folder.name in SPLITS or (above and folder.name != above):
            continue
        if not (name in (root.name, *inside) or set(inside) <= _LEVELS):
            continue
        if any(_is_split(folder / split) for split in splits):
            return folder
    return None


def pictures_of_tree(folder: Path, splits: Sequence[str] = SPLITS, inside: str = "") -> Iterator[Picture]:
    """Yield the images of a tree, under their names, in `images/<split>/<folder>`; `gallery` becomes `database`.

    With `inside` they go to `<inside>/images/<split>/<folder>`.

    Raises:
        MissingRawError: none of the splits is there.
        UserError: a name without coordinates.
    """
    there = [split for split in splits if (folder / split).is_dir()]
    if not there:
        raise MissingRawError(f"{folder}: none of {', '.join(splits)} is there")
    for split in there:
        yield from _pictures_of_split(folder / split, _target(inside, split))


def _pictures_of_split(folder: Path, target: str) -> Iterator[Picture]:
    start = len(str(folder)) + 1
    for here, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = here[start:]
        first, slash, rest = inside.partition("/")
        inside = f"{'database' if first == 'gallery' else first}{slash}{rest}"
        below = f"{target}/{inside}" if inside else target
        for name in sorted(files):
            if name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith("."):
                yield Picture(f"{below}/{_in_order(name, here)}", f"{here}/{name}")


def lists_of_tree(folder: Path, splits: Sequence[str] = SPLITS, inside: str = "") -> list[tuple[Path, str]]:
    """Return the lists of images beside folders of a tree, and where they go."""
    found = [(folder / f"{split}{_LIST}", f"{_target(inside, split)}{_LIST}") for split in splits]
    for split in splits:
        found += [(path, f"{_target(inside, split)}/{path.name}") for path in (folder / split).glob(f"*{_LIST}")]
    return [(path, target) for path, target in found if path.is_file()]


def _target(inside: str, split: str) -> str:
    return f"{inside}/images/{split}" if inside else f"images/{split}"


def _is_split(folder: Path) -> bool:
    """Whether a folder has images with coordinates in their names, at the depth that any known tree has them."""
    return next((True for depth in range(_DEPTH) if _named(folder, depth)), False)


def _named(folder: Path, depth: int) -> bool:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if depth else os.scandir(folder)
    except OSError:
        return False
    for entry in entries:
        if depth and entry.is_dir() and _named(folder / entry.name, depth - 1):
            return True
        if not depth and _has_utm(entry.name):
            return True
    return False


def _has_utm(name: str) -> bool:
    fields = name.split("@")
    return len(fields) > 2 and all(_NUMBER.fullmatch(field) for field in fields[1:3])


def _in_order(name: str, folder: str) -> str:
    """Return a name with its fields where they belong.

    An older order, SVOX's, has year and month, then the panorama, where zone and letter belong; what further fields it
    has nobody says, so they are kept in the note.
    """
    if not _has_utm(name):
        raise UserError(
            f"{folder}/{name}: no coordinates in its name. Expected @UTM_east@UTM_north@...@.jpg as in "
            "docs/datasets.md; move it away, or give the raw files that the set is made of"
        )
    stem, _, extension = name.rpartition(".")
    fields = stem.split("@")
    third = fields[3] if len(fields) > 3 else ""
    if third == "" or (third.isdecimal() and 1 <= int(third) <= 60):
        return name
    date = third if re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])?\d*", third) else ""
    pano_id = fields[4] if len(fields) > 4 else ""
    rest = [field for field in fields[5:] if field] + ([] if date else [third])
    ordered = ["", fields[1], fields[2], "", "", "", "", pano_id, "", "", "", "", "", date, "_".join(rest), ""]
    return "@".join(ordered) + f".{extension}"
