"""MSLS (Warburg et al., 2020): Mapillary sequences of 30 cities; train, the two validation protocols, the challenge."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.naming import Place, at_degrees, protocol_name, timestamp_of
from datasets_vg.prepare.run import FromRaw
from vgbench.data.positives import neighbours_within
from vgbench.data.protocol import parse_name
from vgbench.errors import UserError

logger = logging.getLogger(__name__)

TRAIN = (
    *("trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto", "saopaulo", "moscow"),
    *("zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa", "phoenix", "goa", "amman", "nairobi"),
    "manila",
)
VAL = ("cph", "sf")
CHALLENGE = ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala")
LEVELS = {"database": "database", "query": "queries"}
OFFICIAL = "queries_740"
KEYS = "key_mslsval.txt"
"""A published list of the official queries, for those whose raw files have no subtask_index.csv."""
_RADIUS = 25.0

Row = dict[str, str]


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the images of a part without panoramas, at the latitude and longitude of raw.csv."""
    del name
    if part == "challenge":
        return _challenge(raw)
    cities = TRAIN if part == "train" else VAL
    folders = {city: raw.find(f"train_val/{city}", city, folder=True) for city in cities}
    missing = [f"train_val/{city}" for city, folder in folders.items() if folder is None]
    for city, folder in folders.items():
        wanted = [f"{level}/{file}" for level in LEVELS for file in ("images", "raw.csv", "postprocessed.csv")]
        missing += [
            f"train_val/{city}/{path}" for path in wanted if folder is not None and not (folder / path).exists()
        ]
    if missing:
        raise MissingRawError(f"{raw}: {', '.join(missing)} not there")
    return (picture for city, folder in folders.items() if folder for picture in _city(folder, city, f"images/{part}"))


def _city(folder: Path, city: str, target: str) -> Iterator[Picture]:
    for level, goal in LEVELS.items():
        for raw_row, row in _in_step(folder / level / "raw.csv", folder / level / "postprocessed.csv"):
            if not _is(raw_row["pano"]):
                key = raw_row["key"]
                file = _name(raw_row, row, city)
                yield Picture(f"{target}/{goal}/{file}", str(folder / level / "images" / f"{key}.jpg"))


def _name(raw_row: Row, row: Row, city: str) -> str:
    time_of_day = "night" if _is(row["night"]) else "day"
    return protocol_name(
        at_degrees(float(raw_row["lat"]), float(raw_row["lon"])),
        raw_row["key"],
        heading=_angle(raw_row.get("ca", "")),
        timestamp=timestamp_of(raw_row["captured_at"]),
        note=f"{time_of_day}_{row['view_direction'].lower()}_{city}",
    )


def _challenge(raw: Raw) -> Iterator[Picture]:
    """Yield the test cities, each a dataset of its own: challenge/<city>/images/test/{database,queries}.

    They are ranked city by city. Their ground truth (test_meta) was published in 2026.
    """
    pieces, missing = [], []
    for city in CHALLENGE:
        for level in LEVELS:
            images = raw.find(f"test/{city}/{level}/images", folder=True)
            meta = raw.find(f"test_meta/{city}/{level}/postprocessed.csv", f"test/{city}/{level}/postprocessed.csv")
            missing += [f"test/{city}/{level}/images"] if images is None else []
            missing += [f"test_meta/{city}/{level}/postprocessed.csv"] if meta is None else []
            if images is not None and meta is not None:
                pieces.append((city, level, images, meta))
    if missing:
        raise MissingRawError(f"{raw}: {', '.join(missing)} not there")
    return (picture for piece in pieces for picture in _challenge_folder(*piece))


def _challenge_folder(city: str, level: str, images: Path, meta: Path) -> Iterator[Picture]:
    degrees = (
        {row["key"]: row for row in _rows(meta.with_name("raw.csv"))} if meta.with_name("raw.csv").is_file() else {}
    )
    for row in _rows(meta):
        known = degrees.get(row["key"])
        if known is not None and _is(known.get("pano", "")):
            continue
        place = (
            Place(float(row["easting"]), float(row["northing"]))
            if known is None
            else at_degrees(float(known["lat"]), float(known["lon"]))
        )
        night = "night" if _is(row.get("night", "")) else "day"
        note = f"{night}_{row.get('view_direction', '').lower()}_{city}"
        file = protocol_name(place, row["key"], note=note)
        yield Picture(f"challenge/{city}/images/test/{LEVELS[level]}/{file}", str(images / f"{row['key']}.jpg"))


def finish(root: Path, raw: Raw, part: str) -> None:
    """Once val is in place: test is the same, and the official queries are links to those among all."""
    if part != "val":
        return
    test = root / "images" / "test"
    if not test.exists():
        test.symlink_to("val", target_is_directory=True)
    keys = official_keys(raw)
    if keys is None:
        logger.warning(
            "%s: %s is not made: neither subtask_index.csv and postprocessed.csv of both cities nor %s is there",
            root, OFFICIAL, KEYS,
        )  # fmt: skip
        return
    queries, chosen = root / "images" / "val" / "queries", root / "images" / "val" / OFFICIAL
    chosen.mkdir(exist_ok=True)
    for file in queries.iterdir():
        link = chosen / file.name
        if parse_name(file.name).pano_id in keys and not link.is_symlink():
            link.symlink_to(f"../queries/{file.name}")


def official_keys(raw: Raw) -> set[str] | None:
    """Return the keys of the official validation queries, 740 of them, or None where the raw files do not say.

    They are those of the subtask `all` that are no panoramas and have a database image within 25 m by the positions of
    postprocessed.csv, city by city.
    """
    listed = raw.find(KEYS)
    if listed is not None:
        return set(listed.read_text("utf-8").split())
    keys: set[str] = set()
    for city in VAL:
        folder = raw.find(f"train_val/{city}", city, folder=True)
        names = ("query/subtask_index.csv", "query/raw.csv", "query/postprocessed.csv", "database/postprocessed.csv")
        if folder is None or not all((folder / name).is_file() for name in names):
            return None
        index = [_is(row["all"]) for row in _rows(folder / "query" / "subtask_index.csv")]
        rows = list(_in_step(folder / "query" / "raw.csv", folder / "query" / "postprocessed.csv"))
        if len(index) != len(rows):
            raise UserError(
                f"{folder}/query/subtask_index.csv: {len(index)} lines. Expected {len(rows)}, as in raw.csv"
            )
        asked = [row for (raw_row, row), chosen in zip(rows, index, strict=True) if chosen and not _is(raw_row["pano"])]
        near = neighbours_within(_utm(asked), _utm(list(_rows(folder / "database" / "postprocessed.csv"))), _RADIUS)
        keys |= {row["key"] for row, count in zip(asked, near.counts.tolist(), strict=True) if count}
    return keys


def _utm(rows: list[Row]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([[float(row["easting"]), float(row["northing"])] for row in rows], np.float64).reshape(-1, 2)


def _in_step(raw_file: Path, file: Path) -> Iterator[tuple[Row, Row]]:
    """Yield the rows of two files that describe the same images, one after the other."""
    first, second = list(_rows(raw_file)), list(_rows(file))
    if [row["key"] for row in first] != [row["key"] for row in second]:
        raise UserError(f"{file}: its keys are not those of {raw_file.name}, in that order. Expected them in step")
    return zip(first, second, strict=True)


def _rows(file: Path) -> Iterator[Row]:
    """Yield the rows of a CSV by the names of its columns, whose order is not the same in all versions."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            yield from csv.DictReader(lines)
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}). Expected a CSV of MSLS's metadata") from error


def _is(text: str) -> bool:
    return text.strip().lower() in ("true", "1")


def _angle(text: str) -> float | None:
    try:
        return float(text) % 360
    except ValueError:
        return None


def _splits(part: str) -> tuple[str, ...]:
    return () if part == "challenge" else (part,)


PREPARER = FromRaw(arrange, splits=_splits, finish=finish)
