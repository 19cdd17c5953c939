"""Where a dataset's splits lie on disk, and what to tell the person whose dataset is not there."""

from __future__ import annotations

import difflib
import glob
import os
import re
from pathlib import Path

from datasets_vg import catalog
from datasets_vg.sources import Entry

EXPECTED = (
    "Expected <datasets_folder>/<dataset_name>/images/{train,val,test}/{database,queries}/**/*.jpg, see "
    "docs/datasets.md (--datasets_folder says where)"
)
SPLITS = ("train", "val", "test")
MANIFEST = "prepared.json"
"""What `prepare` keeps in a dataset that it made."""
# GSV-Cities' folder of data frames, one a city.
DATAFRAMES = "Dataframes"


def split_folder(root: Path, split: str) -> Path:
    """Return <root>/images/<split>, or <root>/<split> where a set is kept as published: sf_xs, tokyo_xs, msls, sf_xl.

    A split that is in neither place is expected in the first.
    """
    inside, bare = root / "images" / split, root / split
    return bare if bare.is_dir() and not inside.is_dir() else inside


def dataset_of(folder: Path) -> Path:
    """Return the dataset's folder of a folder of images below it; of one that is in no dataset, itself."""
    for above in (folder, *folder.parents):
        if above.name in SPLITS:
            return above.parent.parent if above.parent.name == "images" else above.parent
    return folder


def remedy(root: Path, split: str = "") -> str:
    """Return what to do where the dataset at `root`, or a split of it, is missing, by commands that work for its name.

    Args:
        root: of the dataset.
        split: that is missing; "" where it is the whole.
    """
    entry = catalog.KNOWN.get(root.name)
    if entry is None:
        return f"{EXPECTED}{_did_you_mean(root)}; the known datasets: python3 -m datasets_vg list"
    other = _lies_elsewhere(root.name, root.parent)
    if other is not None and not root.is_dir():
        return f"{EXPECTED}; {root.name} lies in {other}: --datasets_folder '{other}'"
    published = _published_splits(entry)
    if split and split not in published:
        return f"{root.name} has no {split}: it is published with {' and '.join(published)} alone"
    part = entry.parts.get(split)
    fetched = part.archives != () if part is not None else entry.fetched
    one = f" --part {split}" if part is not None and not (part.default and entry.fetched == fetched) else ""
    raw = "" if root.name in catalog.MADE or fetched else " --raw FOLDER"
    prepare = f"python3 -m datasets_vg prepare {root.name}{one}{_elsewhere(root.parent)}{raw}"
    away = f" once {root}, which prepare did not make, is moved away" if _is_of_another(root) else ""
    if root.name in catalog.MADE:
        return f"{EXPECTED}; to make it{away}: {prepare}"
    if fetched:
        return f"{EXPECTED}; to fetch it{away}: {prepare}"
    return f"{EXPECTED}; to make it of its archives, which are to be asked for{away}: {prepare}"


def _published_splits(entry: Entry) -> list[str]:
    """Return the splits that a dataset has; a set of places in folders of cities is for training."""
    if not entry.layout.startswith("images/"):
        return ["train"]
    words = set(re.findall(r"[a-z]+", entry.layout))
    return [split for split in SPLITS if split in words]


def _is_of_another(root: Path) -> bool:
    """Whether a folder is there that `prepare` leaves alone, since it did not make it."""
    try:
        return root.is_dir() and any(root.iterdir()) and not (root / MANIFEST).is_file()
    except OSError:
        return False


def _lies_elsewhere(name: str, asked: Path) -> Path | None:
    """Return another folder of datasets that has one of this name: the usual ones, those above, and those inside."""
    above = asked.absolute().parent
    named = Path(os.environ.get("DATASETS_FOLDER") or "datasets").expanduser()
    usual = [named, Path("datasets"), above, above / "datasets"]
    inside = [path.parent for depth in ("*", "*/*") for path in sorted(asked.glob(f"{depth}/{glob.escape(name)}"))]
    for folder in (*usual, *inside):
        if folder.absolute() != asked.absolute() and _has_splits(folder / name):
            return folder
    return None


def _has_splits(root: Path) -> bool:
    return any(split_folder(root, split).is_dir() for split in SPLITS) or (root / DATAFRAMES).is_dir()


def instead(missing: Path, prefix: str) -> str:
    """Return a sentence that names the folders which are beside a missing one and begin with `prefix`."""
    try:
        names = sorted(p.name for p in missing.parent.iterdir() if p.is_dir() and p.name.startswith(prefix))
    except OSError:
        return ""
    return f" There are: {', '.join(names)}." if names else ""


def _did_you_mean(root: Path) -> str:
    try:
        here = [p.name for p in root.parent.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError:
        here = []
    near = difflib.get_close_matches(root.name, here, n=1)
    if near and near[0] != root.name:
        return f". Did you mean {near[0]}, which is in {root.parent}?"
    for name in (root.name, catalog.closest(root.name)):
        other = _lies_elsewhere(name, root.parent) if name else None
        if other is not None:
            return f". Did you mean {name}, which is in {other}: --datasets_folder '{other}'?"
    known = catalog.closest(root.name)
    if known is None:
        return ""
    raw = "" if known in catalog.MADE or catalog.KNOWN[known].fetched else " --raw FOLDER"
    return f". Did you mean {known}: python3 -m datasets_vg prepare {known}{_elsewhere(root.parent)}{raw}?"


def _elsewhere(datasets_folder: Path) -> str:
    """Return the option that names a folder of datasets, where it is not the one that is used without it."""
    usual = Path(os.environ.get("DATASETS_FOLDER") or "datasets").expanduser()
    same = datasets_folder.expanduser().resolve() == usual.resolve()
    return "" if same else f" --datasets_folder '{datasets_folder}'"
