"""What a preparer is, what it is asked for, and what it gives: one picture after the other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from vgbench.errors import UserError

_DEPTH = 4
_MANY = 400  # files in a folder before it is taken for one of images, with nothing to find in it


class Picture(NamedTuple):
    """One image of the dataset to be.

    Attributes:
        target: its path below the dataset's folder, "images/test/database/@...@.jpg".
        source: the raw file, which becomes it as it is where there is no `image`.
        image: makes its pixels, to be encoded as JPEG; called at most once, in any thread.
    """

    target: str
    source: str
    image: Callable[[], Image.Image] | None = None


@dataclass(frozen=True)
class Request:
    """What somebody asked for.

    Attributes:
        name: of the dataset.
        datasets_folder: where it goes.
        raw: the folder with raw files; None: they are to be fetched.
        parts: names of parts; the default ones where empty.
        transfer: what becomes of raw files that stay as they are: "link", "copy" or "move".
        jobs: threads or processes.
        keep_downloads: leave fetched archives where they are.
        own: further options, which only this preparer has.
    """

    name: str
    datasets_folder: Path
    raw: Path | None = None
    parts: tuple[str, ...] = ()
    transfer: str = "link"
    jobs: int | None = None
    keep_downloads: bool = False
    own: Mapping[str, object] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.datasets_folder / self.name

    @property
    def partial(self) -> Path:
        """Where it is made before it takes its place."""
        return self.datasets_folder / f"{self.name}.partial"


class Preparer(Protocol):
    """What a file in datasets_vg/prepare/ calls PREPARER."""

    own_options: tuple[str, ...]
    """Options of the command line that only this one has, such as "images"."""

    def prepare(self, request: Request) -> Path:
        """Make the dataset and return its folder; raises UserError."""


class MissingRawError(UserError):
    """Raw files that the part is made of are not in the folder."""


@dataclass(frozen=True)
class Raw:
    """Folders in which raw files are looked for, first to last."""

    roots: tuple[Path, ...]

    def find(self, *names: str, folder: bool | None = None) -> Path | None:
        """Return the first file or folder with one of these relative paths, at most four folders down, or None.

        Args:
            names: relative paths such as "datasets/pitts30k_test.mat", the best first.
            folder: whether it must be a folder (True) or a file (False).
        """
        for name in names:
            for _, above in self.folders():
                found = above / name
                if found.exists() and (folder is None or found.is_dir() == folder):
                    return found
        return None

    def need(self, *names: str, folder: bool | None = None) -> Path:
        """Return what `find` finds; raises MissingRawError where it is not there."""
        found = self.find(*names, folder=folder)
        if found is None:
            raise MissingRawError(f"{self}: {' or '.join(names)} is not there")
        return found

    def glob(self, pattern: str) -> list[Path]:
        """Return what matches a pattern in any of the folders, sorted by name, each name once."""
        found: dict[str, Path] = {}
        for _, above in self.folders():
            for path in above.glob(pattern):
                found.setdefault(path.name, path)
        return [found[name] for name in sorted(found)]

    def folders(self) -> Iterator[tuple[Path, Path]]:
        """Yield the roots and the folders in them, the nearest first, each with its root before it.

        Folders full of images are not looked through.
        """
        queue = deque((root, root, 0) for root in self.roots if root.is_dir())
        while queue:
            root, here, depth = queue.popleft()
            yield root, here
            if depth < _DEPTH:
                queue.extend((root, here / name, depth + 1) for name in sorted(_subfolders(here)))

    def __str__(self) -> str:
        return ", ".join(map(str, self.roots))


def _subfolders(folder: Path) -> list[str]:
    names, files = [], 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                names.append(entry.name)
            else:
                files += 1
                if files > _MANY:
                    break
    return [name for name in names if not name.startswith(".")]


def files_below(folder: Path, *endings: str) -> Iterator[str]:
    """Yield the paths of the files with one of these endings (".jpg", any case), sorted, hidden ones left out."""
    for here, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(endings) and not name.startswith("."):
                yield f"{here}/{name}"
