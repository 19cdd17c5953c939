"""Finding unreadable images before a run starts, and remembering what was found."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vgbench import parallel
from vgbench.data.decode import check_image
from vgbench.data.loader import Batches, BatchLoader
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.files import write_text

LOG = logging.getLogger(__name__)

_IMAGES_AT_ONCE = 64
_NAMED = 10  # how many bad images a message names
_PROGRESS_FROM = 5000  # images; fewer are checked in seconds


@dataclass(frozen=True)
class BadImages:
    """The unreadable images of a table, in its order, as (relative path, reason)."""

    images: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.images)


class _Checks(Batches[list[tuple[str, str]]]):
    def __init__(self, table: ImageTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return -(-len(self.table) // _IMAGES_AT_ONCE)

    def make(self, index: int) -> list[tuple[str, str]]:
        start = index * _IMAGES_AT_ONCE
        rows = range(start, min(start + _IMAGES_AT_ONCE, len(self.table)))
        return _bad_among(self.table.root, [self.table.relative_path(row) for row in rows])


def find_bad_images(table: ImageTable, num_workers: int, progress: bool = True) -> BadImages:
    """Decode every image, cheaply, and tell which cannot be read.

    The result is remembered in $XDG_CACHE_HOME (or ~/.cache) under the table's fingerprint, so that a second call on
    the same files decodes only what was bad.

    Args:
        table: the images.
        num_workers: processes, at most the machine's cores; 0 checks in this process.
        progress: show a bar where there are thousands of images.
    """
    memory = verified_folder() / f"{table.fingerprint()}.json"
    suspects = _recall(memory, len(table))
    if suspects is not None:
        # A bad image may have been mended without a new size or time (permissions, a disk that is back).
        return BadImages(tuple(_bad_among(table.root, suspects)))
    bad: list[tuple[str, str]] = []
    hidden = not progress or len(table) < _PROGRESS_FROM
    with tqdm(total=len(table), desc=f"checking {table.root.name}", unit="image", disable=hidden) as bar:
        for found in BatchLoader(_Checks(table), num_workers, pin_memory=False):
            bad += found
            bar.update(min(_IMAGES_AT_ONCE, len(table) - bar.n))
    _remember(memory, json.dumps({"images": len(table), "bad": [name for name, _ in bad]}))
    return BadImages(tuple(bad))


def check_images(table: ImageTable, on_bad_image: str, num_workers: int) -> ImageTable:
    """Return the table of readable images.

    Args:
        table: the images.
        on_bad_image: "error" or "skip".
        num_workers: processes, at most the machine's cores; 0 checks in this process.

    Raises:
        UserError: there are unreadable images and `on_bad_image` is "error", or no image is readable.
    """
    with parallel.main_first():  # which remembers what it saw
        bad = find_bad_images(table, num_workers)
    if not len(bad):
        return table
    names = ", ".join(f"{name} ({reason})" for name, reason in bad.images[:_NAMED])
    names += f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    found = f"{table.root}: {len(bad)} of {len(table)} images cannot be read: {names}"
    listing = _write_listing(table, bad)
    if on_bad_image != "skip" or len(bad) == len(table):
        skip = "" if len(bad) == len(table) else ", or go on without them: --on_bad_image skip"
        raise UserError(f"{found}. Expected whole image files; all are listed in {listing}; fetch them again{skip}")
    LOG.warning("%s; going on without them (listed in %s)", found, listing)
    unreadable = {name for name, _ in bad.images}
    kept = [row for row, name in enumerate(table.relative_paths()) if name not in unreadable]
    return table.select(np.array(kept, np.int64))


def verified_folder() -> Path:
    """Return the folder where results are remembered."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "vgbench" / "verified"


def _bad_among(root: Path, names: list[str]) -> list[tuple[str, str]]:
    reasons = ((name, check_image(root / name)) for name in names)
    return [(name, reason) for name, reason in reasons if reason]


def _recall(memory: Path, count: int) -> list[str] | None:
    try:
        known = json.loads(memory.read_text("utf-8"))
        return [str(name) for name in known["bad"]] if known["images"] == count else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(file: Path, text: str) -> bool:
    """Write a whole file or none; a cache that cannot be written costs time, not the run.

    Two processes that write it at once write the same, since its name says what it is of.
    """
    try:
        write_text(file, text)
    except UserError as error:
        LOG.debug("%s", error)
        return False
    return True


def _write_listing(table: ImageTable, bad: BadImages) -> Path:
    text = "".join(f"{table.root / name}\t{reason}\n" for name, reason in bad.images)
    listing = verified_folder() / f"{table.fingerprint()}.txt"
    if not _remember(listing, text):
        listing = Path(tempfile.mkdtemp(prefix="vgbench-")) / "unreadable_images.txt"
        _remember(listing, text)
    return listing
