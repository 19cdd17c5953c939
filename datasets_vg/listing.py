"""Say in a table what datasets there are, and which of them are here."""

from __future__ import annotations

from pathlib import Path

from tabulate import tabulate

from datasets_vg.catalog import KNOWN, MADE
from datasets_vg.sources import Entry
from vgbench.data.layout import DATAFRAMES, SPLITS, split_folder


def list_datasets(datasets_folder: Path) -> str:
    """Return a markdown table of the known datasets and of those found in `datasets_folder`."""
    found = sorted(p.name for p in datasets_folder.glob("*") if _here(p) and p.suffix != ".partial")
    rows = [
        (name, _here(datasets_folder / name), _source(name), " ".join(_parts(entry)), entry.about)
        for name, entry in KNOWN.items()
    ]
    rows += [(name, _here(datasets_folder / name), "", "", "") for name in found if name not in KNOWN]
    headers = ["dataset", f"in {datasets_folder}", "prepare", "parts (default first)", "what it shows"]
    return str(tabulate(rows, headers=headers, tablefmt="github"))


def _source(name: str) -> str:
    """Say what `prepare` needs for a set."""
    entry = KNOWN[name]
    if name in MADE:
        return "makes it"
    return "fetches it" if entry.fetched else "needs --raw"


def _parts(entry: Entry) -> list[str]:
    names = sorted(entry.parts, key=lambda name: not entry.parts[name].default)
    return [name if entry.parts[name].default else f"({name})" for name in names if len(names) > 1]


def _here(root: Path) -> str:
    if (root / DATAFRAMES).is_dir():
        return "train"
    return " ".join(split for split in SPLITS if split_folder(root, split).is_dir())
