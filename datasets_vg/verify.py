"""Check a dataset: names that parse, images that decode; and which queries cannot be localised."""

from __future__ import annotations

from pathlib import Path

from datasets_vg.splits import SplitFolders, find_splits
from vgbench.data import ImageTable, find_bad_images, neighbours_within, read_folder
from vgbench.data.listing import left_out_line
from vgbench.data.positions import in_one_frame
from vgbench.data.protocol import examine_folder
from vgbench.errors import UserError

_NAMED = 5


def verify(root: Path, radius: float, jobs: int = 0) -> int:
    """Check a dataset, print a line a folder and a line a fault, and return the number of faults.

    Args:
        root: the dataset's folder.
        radius: of a positive, metres.
        jobs: processes that decode; 0 decodes in this one.

    Raises:
        UserError: it is no dataset at all.
    """
    faults = sum(_verify_split(split, radius, jobs) for split in find_splits(root))
    print(f"{root}: {'no faults' if not faults else f'{faults} faults'}")
    return faults


def _verify_split(split: SplitFolders, radius: float, jobs: int) -> int:
    faults = 0
    if split.places is None and (split.database is None or not split.queries):
        missing = "database" if split.database is None else "queries"
        print(f"FAULT {split.name}: there is no {missing} folder")
        faults += 1
    tables: dict[Path, ImageTable] = {}
    for folder in split.all:
        try:
            examined = examine_folder(folder)
            table = read_folder(folder) if not len(examined.table) else examined.table
        except UserError as error:
            print(f"FAULT {error}")
            faults += 1
            continue
        for finding in examined.findings:
            print(f"FAULT {finding.text}")
        faults += len(examined.findings)
        if examined.left_out:
            print(f"note {left_out_line(folder, examined.left_out)}")
        if any(finding.refused for finding in examined.findings):
            continue
        tables[folder] = table
        print(f"{split.name}/{folder.name if folder != split.places else ''}: {len(table)} images")
        bad = find_bad_images(table, jobs)
        for name, reason in bad.images[:_NAMED]:
            print(f"FAULT {folder / name}: {reason}")
        if len(bad) > _NAMED:
            print(f"FAULT {folder}: {len(bad) - _NAMED} more unreadable images")
        faults += len(bad)
    faults += _bring_into_one_frame(tables)
    database = tables.get(split.database) if split.database else None
    for folder in split.queries:
        if database is not None and folder in tables:
            _note_without_positives(folder, tables[folder], database, radius)
    return faults


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
