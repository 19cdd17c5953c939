"""MSLS (Warburg et al., 2020): Mapillary sequences of 30 cities; train, the two validation protocols, the challenge."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets_vg.challenge.choices import CITIES
from datasets_vg.challenge.metadata import Row, in_step, is_true, read_rows, utm_of
from datasets_vg.challenge.scoring import Truth, read_truth
from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.naming import Place, at_degrees, protocol_name, timestamp_of
from datasets_vg.prepare.run import FromRaw
from vgbench.data.positives import neighbours_within
from vgbench.data.protocol import parse_name
from vgbench.data.walk import ORDER_COLUMNS, order_file
from vgbench.errors import UserError
from vgbench.files import write_text

logger = logging.getLogger(__name__)

TRAIN = (
    *("trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto", "saopaulo", "moscow"),
    *("zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa", "phoenix", "goa", "amman", "nairobi"),
    "manila",
)
VAL = ("cph", "sf")
LEVELS = {"database": "database", "query": "queries"}
OFFICIAL = "queries_740"
CHALLENGE_OFFICIAL = "queries_official"
KEYS = "key_mslsval.txt"
"""A published list of the official queries, for those whose raw files have no subtask_index.csv."""
_RADIUS = 25.0


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the images of a part without panoramas, at the degrees of raw.csv; raises MissingRawError without it."""
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
        for raw_row, row in in_step(folder / level / "raw.csv", folder / level / "postprocessed.csv"):
            if not is_true(raw_row["pano"]):
                key = raw_row["key"]
                file = _name(raw_row, row, city)
                yield Picture(f"{target}/{goal}/{file}", str(folder / level / "images" / f"{key}.jpg"))


def _name(raw_row: Row, row: Row, city: str) -> str:
    time_of_day = "night" if is_true(row["night"]) else "day"
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
    for city in CITIES:
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
        {row["key"]: row for row in read_rows(meta.with_name("raw.csv"))} if meta.with_name("raw.csv").is_file() else {}
    )
    for row in read_rows(meta):
        known = degrees.get(row["key"])
        if known is not None and is_true(known.get("pano", "")):
            continue
        place = (
            Place(float(row["easting"]), float(row["northing"]))
            if known is None
            else at_degrees(float(known["lat"]), float(known["lon"]))
        )
        night = "night" if is_true(row.get("night", "")) else "day"
        note = f"{night}_{row.get('view_direction', '').lower()}_{city}"
        file = protocol_name(place, row["key"], note=note)
        yield Picture(f"challenge/{city}/images/test/{LEVELS[level]}/{file}", str(images / f"{row['key']}.jpg"))


def finish(root: Path, raw: Raw, part: str) -> None:
    """Once a part is in place: the official queries are links to those among all; of val, test is the same."""
    if part == "challenge":
        for city in CITIES:
            test = root / "challenge" / city / "images" / "test"
            _link_official(test, CHALLENGE_OFFICIAL, set(_challenge_truth(raw, city).positives))
            _keep_sequences(test, raw, (city,), "test")
    else:
        _keep_sequences(root / "images" / part, raw, TRAIN if part == "train" else VAL, "train_val")
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
    _link_official(root / "images" / "val", OFFICIAL, keys)


def _keep_sequences(split: Path, raw: Raw, cities: Sequence[str], above: str) -> None:
    """Write which images are frames of which sequence beside their folder, as `--seq_order file` reads it."""
    for level, goal in LEVELS.items():
        files = [raw.find(f"{above}/{city}/{level}/seq_info.csv", f"{city}/{level}/seq_info.csv") for city in cities]
        there = [file for file in files if file is not None]
        target = order_file(split / goal)
        if len(there) < len(cities):
            logger.warning("%s is not made: %d cities have no %s/seq_info.csv", target, len(cities) - len(there), level)
            continue
        lines = [",".join(row[column] for column in ORDER_COLUMNS) for file in there for row in read_rows(file)]
        write_text(target, "\n".join([",".join(ORDER_COLUMNS), *lines]) + "\n")


def _link_official(split: Path, name: str, keys: set[str]) -> None:
    """Make a folder of links to those of all queries that have one of the keys."""
    chosen = split / name
    chosen.mkdir(exist_ok=True)
    for file in (split / "queries").iterdir():
        link = chosen / file.name
        if parse_name(file.name).pano_id in keys and not link.is_symlink():
            link.symlink_to(f"../queries/{file.name}")


def _challenge_truth(raw: Raw, city: str) -> Truth:
    """Return what is right in a city, from the first of the raw folders that has its metadata."""
    for root in raw.roots[:-1]:
        with contextlib.suppress(UserError):
            return read_truth(root, city)
    return read_truth(raw.roots[-1], city)


def official_keys(raw: Raw) -> set[str] | None:
    """Return the keys of the official validation queries, 740 of them, or None where the raw files do not say.

    They are those of the subtask `all` that are no panoramas and have a database image within 25 m by the positions of
    postprocessed.csv, city by city.

    Raises:
        UserError: a list of subtasks that does not fit its list of images.
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
        index = [is_true(row["all"]) for row in read_rows(folder / "query" / "subtask_index.csv")]
        rows = list(in_step(folder / "query" / "raw.csv", folder / "query" / "postprocessed.csv"))
        if len(index) != len(rows):
            raise UserError(
                f"{folder}/query/subtask_index.csv: {len(index)} lines. Expected {len(rows)}, as in raw.csv"
            )
        asked = [
            row for (raw_row, row), chosen in zip(rows, index, strict=True) if chosen and not is_true(raw_row["pano"])
        ]
        near = neighbours_within(
            utm_of(asked), utm_of(list(read_rows(folder / "database" / "postprocessed.csv"))), _RADIUS
        )
        keys |= {row["key"] for row, count in zip(asked, near.counts.tolist(), strict=True) if count}
    return keys


def _angle(text: str) -> float | None:
    try:
        return float(text) % 360
    except ValueError:
        return None


def _splits(part: str) -> tuple[str, ...]:
    return () if part == "challenge" else (part,)


PREPARER = FromRaw(arrange, splits=_splits, finish=finish)
