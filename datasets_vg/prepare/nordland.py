"""Nordland (Suenderhauf et al., 2013): one railway in summer and in winter, frame by frame.

There is no geography in it: frame i lies i * 25/10.5 m north, so that 25 m are ten frames to either side.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.images import as_rgb
from datasets_vg.prepare.naming import pair_name
from datasets_vg.prepare.run import FromRaw

METRES_A_FRAME = 25 / 10.5
SEASONS = {"summer": "database", "winter": "queries"}
LIST = "cleanImageNames.txt"


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the frames of both seasons that stand in the list of clean ones (no tunnels, no stops)."""
    del name, part
    found = {season: raw.find(season, folder=True) for season in SEASONS}
    clean = raw.find(LIST, "nordland_clean_imageNames.txt", folder=False)
    missing = [season for season, folder in found.items() if folder is None] + ([LIST] if clean is None else [])
    if missing or clean is None:
        raise MissingRawError(f"{raw}: {', '.join(missing)} not there")
    wanted = {Path(line.strip()).stem for line in clean.read_text("utf-8").splitlines() if line.strip()}
    for season, folder in found.items():
        assert folder is not None
        frames = sorted((path for path in folder.rglob("*.png") if path.stem in wanted), key=lambda path: path.name)
        if len(frames) < len(wanted):
            raise MissingRawError(f"{folder}: {len(frames)} of the {len(wanted)} frames of {clean.name} there")
        for i, frame in enumerate(frames):
            target = pair_name(f"{i * METRES_A_FRAME:07.1f}", str(i))
            yield Picture(f"images/test/{SEASONS[season]}/{target}", str(frame), functools.partial(as_rgb, frame))


PREPARER = FromRaw(arrange)
