"""Check a dataset: names that parse, images that decode, counts; and which queries cannot be localised."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from datasets_vg import catalog
from datasets_vg.prepare.record import differs
from datasets_vg.splits import SplitFolders, find_splits
from vgbench.data import ImageTable, neighbours_within, read_folder
from vgbench.data.listing import left_out_line
from vgbench.data.positions import in_one_frame
from vgbench.errors import UserError

_NAMED = 5


@dataclass(frozen=True)
class Checks:
    """What is looked at.

    Attributes:
        radius: of a positive, metres.
        jobs: processes that decode; 0 decodes in this one.
        decode: whether images are decoded; without it their names alone are read.
    """

    radius: float = 25.0
    jobs: int = 0
    decode: bool = True


def verify(root: Path, checks: Checks) -> int:
    """Check a dataset in one pass; print a line a folder and a line a fault, and return the number of faults.

    Numbers of images that are not the published ones are warnings, with how sure those are.

    Raises:
        UserError: it is no dataset at all.
    """
    faults = sum(_verify_split(root.name, split, checks) for split in find_splits(root))
    print(f"{root}: {'no faults' if not faults else f'{faults} faults'}")
    return faults


def _verify_split(dataset: str, split: SplitFolders, checks: Checks) -> int:
    faults = 0
    if split.places is None and (split.database is None or not split.queries):
        missing = "database" if split.database is None else "queries"
        gallery = split.queries and (split.queries[0].parent / "gallery").is_dir()
        hint = f"; its gallery becomes one by: python3 -m datasets_vg prepare {dataset} --raw FOLDER" if gallery else ""
        print(f"FAULT {split.name}: there is no {missing} folder{hint}")
        faults += 1
    tables: dict[Path, ImageTable] = {}
    for folder in split.all:
        try:
            found, table = _verify_folder(dataset, split, folder, checks)
        except UserError as error:
            found, table = 1, None
            print(f"FAULT {error}")
        faults += found
        if table is not None:
            tables[folder] = table
    faults += _bring_into_one_frame(tables)
    database = tables.get(split.database) if split.database else None
    for folder in split.queries:
        if database is not None and folder in tables:
            _note_without_positives(folder, tables[folder], database, checks.radius)
    return faults


def _verify_folder(dataset: str, split: SplitFolders, folder: Path, checks: Checks) -> tuple[int, ImageTable | None]:
    """Return how many faults a folder has, and its images where their positions can be used."""
    examined = split.examine(folder)
    if not len(examined.table) and not examined.findings:
        read_folder(folder)  # which says that there is nothing
    for name in examined.nameless:
        print(f"FAULT {folder / name}: no UTM coordinates in its name")
    for finding in examined.findings:
        print(f"FAULT {finding.text}")
    faults = len(examined.findings)
    if examined.left_out:
        print(f"note {left_out_line(folder, examined.left_out)}")
    table, label = examined.table, split.label(folder)
    print(f"{label}: {len(table)} images")
    _compare(dataset, label, len(table))
    bad = _unreadable(table, checks.jobs) if checks.decode else _not_there(table)
    for name, reason in bad:
        print(f"FAULT {folder / name}: {reason}")
    unusable = any(finding.refused for finding in examined.findings) or not len(table)
    return faults + len(bad), None if unusable else table


def _compare(dataset: str, label: str, images: int) -> None:
    entry = catalog.KNOWN.get(dataset)
    published = entry.counts.get(label) if entry else None
    if entry is not None and published is not None and not published.agrees(images):
        print(f"warning {differs(label, images, entry)}")


def _unreadable(table: ImageTable, jobs: int) -> tuple[tuple[str, str], ...]:
    from vgbench.data.verify import find_bad_images  # with torch, which names are checked without

    return find_bad_images(table, jobs).images


def _not_there(table: ImageTable) -> tuple[tuple[str, str], ...]:
    """Return the images that are no files, with that reason: those of a data frame, or of a list, may be none."""
    root = f"{table.root}/"
    lost = (name for name in table.relative_paths() if not os.path.exists(root + name))  # noqa: PTH110
    return tuple((name, "there is no such file") for name in lost)


def _bring_into_one_frame(tables: dict[Path, ImageTable]) -> int:
    """Put the tables of one split into one frame of metres, as a run does; returns the number of faults."""
    try:
        framed, done = in_one_frame(list(tables.values()))
    except UserError as error:
        print(f"FAULT {error}")
        return 1
    tables.update(zip(tables, framed, strict=True))
    if done is None:
        return 0
    print(f"FAULT {done.text}")
    return 1


def _note_without_positives(folder: Path, queries: ImageTable, database: ImageTable, radius: float) -> None:
    """Print which queries nothing can localise: no fault, since they count as misses, but good to know."""
    lost = neighbours_within(queries.utm, database.utm, radius).without()
    if not lost.size:
        return
    names = ", ".join(queries.relative_path(int(row)) for row in lost[:_NAMED])
    more = f" and {lost.size - _NAMED} more" if lost.size > _NAMED else ""
    print(f"note {folder}: {lost.size} queries have no database image within {radius:g} m: {names}{more}")
