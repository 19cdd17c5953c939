"""Nordland (Suenderhauf et al., 2013): one railway in summer and in winter, frame by frame, in two protocols.

There is no geography in it. `nordland`: frame i lies i * 25/10.5 m north, so that 25 m are ten frames to either side;
summer is the database, winter the queries. `nordland_vprbench` (Zaffar et al., VPR-Bench, IJCV 2021): winter is the
database, every tenth frame of summer a query, and frames lie 25/1.5 m apart, so that 25 m are one frame to either side.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from datasets_vg.prepare.base import MissingRawError, Picture, Raw, files_below
from datasets_vg.prepare.images import as_rgb
from datasets_vg.prepare.naming import pair_name
from datasets_vg.prepare.run import FromRaw
from vgbench.data.protocol import parse_name
from vgbench.errors import UserError

METRES_A_FRAME = 25 / 10.5
SEASONS = {"summer": "database", "winter": "queries"}
LIST = "cleanImageNames.txt"
VPRBENCH = "vprbench"
"""The part of `nordland_vprbench`."""
VPRBENCH_METRES_A_FRAME = 25 / 1.5
VPRBENCH_STEP = 10
"""Frames from one query of VPR-Bench to the next."""
_VPRBENCH_FOLDERS = {"ref": "database", "query": "queries"}


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the frames of both seasons that stand in the list of clean ones (no tunnels, no stops)."""
    del name
    return _vprbench(raw) if part == VPRBENCH else _seasons(raw)


def _seasons(raw: Raw) -> Iterator[Picture]:
    for season, frames in _clean_frames(raw).items():
        for i, frame in enumerate(frames):
            yield _encoded(SEASONS[season], frame, i, METRES_A_FRAME)


def _vprbench(raw: Raw) -> Iterator[Picture]:
    """Yield VPR-Bench's images: of its folders ref/ and query/, of `nordland`, or of the seasons that it is made of."""
    ready = {folder: raw.find(f"Nordland/{folder}", folder, folder=True) for folder in _VPRBENCH_FOLDERS}
    if any(ready.values()):
        return _vprbench_folders(raw, ready)
    made = raw.find("nordland/images/test", "images/test", folder=True)
    if made is not None:
        return _vprbench_of_nordland(made)
    return _vprbench_seasons(raw)


def _vprbench_folders(raw: Raw, found: Mapping[str, Path | None]) -> Iterator[Picture]:
    missing = [folder for folder, path in found.items() if path is None]
    if missing:
        raise MissingRawError(f"{raw}: {', '.join(missing)} not there")
    for folder, path in found.items():
        assert path is not None
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in (".jpg", ".jpeg"):
                if not file.stem.isdecimal():
                    raise UserError(f"{file}: Expected the number of the frame as the name, such as 0000012.jpg")
                frame = int(file.stem) * (1 if folder == "ref" else VPRBENCH_STEP)
                yield Picture(_target(_VPRBENCH_FOLDERS[folder], frame, VPRBENCH_METRES_A_FRAME), str(file))


def _vprbench_of_nordland(test: Path) -> Iterator[Picture]:
    """Yield them out of `nordland` in the folder protocol, whose names have the number of the frame."""
    for level, season, step in (("database", "queries", 1), ("queries", "database", VPRBENCH_STEP)):
        for file in files_below(test / season, ".jpg", ".jpeg"):
            number = parse_name(Path(file).name).pano_id
            if not number.isdecimal():
                raise UserError(f"{file}: no number of a frame in its name. Expected `nordland` as prepare makes it")
            if int(number) % step == 0:
                yield Picture(_target(level, int(number), VPRBENCH_METRES_A_FRAME), file)


def _vprbench_seasons(raw: Raw) -> Iterator[Picture]:
    frames = _clean_frames(raw)
    for i, frame in enumerate(frames["winter"]):
        yield _encoded("database", frame, i, VPRBENCH_METRES_A_FRAME)
    for i, frame in list(enumerate(frames["summer"]))[::VPRBENCH_STEP]:
        yield _encoded("queries", frame, i, VPRBENCH_METRES_A_FRAME)


def _encoded(level: str, frame: Path, i: int, metres: float) -> Picture:
    return Picture(_target(level, i, metres), str(frame), functools.partial(as_rgb, frame))


def _target(level: str, frame: int, metres: float) -> str:
    return f"images/test/{level}/{pair_name(f'{frame * metres:07.1f}', str(frame))}"


def _clean_frames(raw: Raw) -> dict[str, list[Path]]:
    """Return the frames of each season that stand in the list of clean ones, in their order."""
    found = {season: raw.find(season, folder=True) for season in SEASONS}
    clean = raw.find(LIST, "nordland_clean_imageNames.txt", folder=False)
    missing = [season for season, folder in found.items() if folder is None] + ([LIST] if clean is None else [])
    if missing or clean is None:
        raise MissingRawError(f"{raw}: {', '.join(missing)} not there")
    wanted = {Path(line.strip()).stem for line in clean.read_text("utf-8").splitlines() if line.strip()}
    clean_frames = {}
    for season, folder in found.items():
        assert folder is not None
        frames = sorted((path for path in folder.rglob("*.png") if path.stem in wanted), key=lambda path: path.name)
        if len(frames) < len(wanted):
            raise MissingRawError(f"{folder}: {len(frames)} of the {len(wanted)} frames of {clean.name} there")
        clean_frames[season] = frames
    return clean_frames


def _splits(part: str) -> tuple[str, ...]:
    """Return which splits a tree of the folder protocol has: VPR-Bench's never comes as one; `nordland` is another."""
    return () if part == VPRBENCH else (part,)


PREPARER = FromRaw(arrange, splits=_splits)
