"""Where a dataset's splits lie on disk, and what to tell the person whose dataset is not there."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from datasets_vg import catalog

EXPECTED = (
    "Expected <datasets_folder>/<dataset_name>/images/{train,val,test}/{database,queries}/**/*.jpg, see "
    "docs/datasets.md (--datasets_folder says where)"
)
SPLITS = ("train", "val", "test")
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


def remedy(root: Path) -> str:
    """Return what to do where the dataset at `root` is missing or not whole, by commands that work for its name."""
    entry = catalog.KNOWN.get(root.name)
    prepare = f"python3 -m datasets_vg prepare {root.name}{_elsewhere(root.parent)}"
    if entry is None:
        return f"{EXPECTED}{_did_you_mean(root)}; the known datasets: python3 -m datasets_vg list"
    if root.name in catalog.MADE:
        return f"{EXPECTED}; to make it: {prepare}"
    if entry.fetched:
        return f"{EXPECTED}; to fetch it: {prepare}"
    return f"{EXPECTED}; to make it of its archives, which are to be asked for: {prepare} --raw FOLDER"


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
    known = catalog.closest(root.name)
    return f". Did you mean {known}: python3 -m datasets_vg prepare {known}{_elsewhere(root.parent)}?" if known else ""


def _elsewhere(datasets_folder: Path) -> str:
    """Return the option that names a folder of datasets, where it is not the one that is used without it."""
    usual = Path(os.environ.get("DATASETS_FOLDER") or "datasets").expanduser()
    same = datasets_folder.expanduser().resolve() == usual.resolve()
    return "" if same else f" --datasets_folder '{datasets_folder}'"
