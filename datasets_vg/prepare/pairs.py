"""Sets of pairs without geography, a kilometre from one pair to the next: AmsterTime (Yildiz et al., 2022), SPED."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.images import as_rgb
from datasets_vg.prepare.naming import pair_name
from vgbench.errors import UserError

APART = 1000
"""Metres from one pair to the next."""


@dataclass(frozen=True)
class Pairs:
    """Two folders whose images of one number show one place.

    Attributes:
        folders: the raw folder of database and of queries.
        above: the name of the folder that they are in.
    """

    folders: Mapping[str, str]
    above: str

    def __call__(self, raw: Raw, name: str, part: str) -> Iterator[Picture]:
        del name, part
        found = {
            level: raw.find(f"{self.above}/{folder}", folder, folder=True) for level, folder in self.folders.items()
        }
        missing = [self.folders[level] for level, folder in found.items() if folder is None]
        if missing:
            raise MissingRawError(f"{raw}: {self.above}/{f' and {self.above}/'.join(missing)} not there")
        for level, folder in found.items():
            assert folder is not None
            for file in sorted(folder.iterdir()):
                if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
                    target = f"images/test/{level}/{_name(file)}"
                    encode = None if file.suffix.lower() in (".jpg", ".jpeg") else functools.partial(as_rgb, file)
                    yield Picture(target, str(file), encode)


def _name(file: Path) -> str:
    if not file.stem.isdecimal():
        raise UserError(f"{file}: Expected a number as the name, the same for both images of a pair")
    return pair_name(str(APART * int(file.stem)), file.stem)
