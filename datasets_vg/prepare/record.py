"""What is kept beside a prepared dataset: which parts are whole, its terms, what to cite; are the counts right?"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from datasets_vg.sources import Entry
from vgbench.data.layout import SPLITS, split_folder
from vgbench.data.listing import IMAGE_EXTENSIONS
from vgbench.files import write_text

logger = logging.getLogger(__name__)

MANIFEST, TERMS, CITATION = "prepared.json", "TERMS.txt", "CITATION.bib"


def is_ours(root: Path) -> bool:
    """Whether a dataset's folder was begun by this command."""
    return (root / MANIFEST).is_file()


def parts_done(root: Path) -> list[str]:
    """Return the parts that are whole."""
    try:
        content = json.loads((root / MANIFEST).read_text("utf-8"))
        return [str(part) for part in content["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def record(root: Path, name: str, part: str | None = None) -> None:
    """Write down that a part is whole; without one, that the folder is this command's."""
    parts = [*parts_done(root), *([part] if part else [])]
    write_text(root / MANIFEST, json.dumps({"dataset": name, "parts": list(dict.fromkeys(parts))}) + "\n")


def terms_of(name: str, entry: Entry) -> str:
    """Return the terms, the source and what to cite, a line each."""
    lines = [f"Terms of {name}: {entry.terms}.", f"Source: {entry.source}."]
    lines += [f"Cite: {'; '.join(map(str, entry.papers))}."] if entry.papers else []
    lines += [f"Note: {entry.note}."] if entry.note else []
    return "\n".join(lines) + "\n"


def keep_terms(root: Path, name: str, entry: Entry) -> None:
    """Write the terms and what to cite beside the images."""
    write_text(root / TERMS, terms_of(name, entry))
    write_text(root / CITATION, "\n".join(paper.bibtex() for paper in entry.papers))


def count_images(root: Path) -> dict[str, int]:
    """Return how many images each folder has: "test/database", or "train" where a split has no such level."""
    counts = {}
    for split in SPLITS:
        folder = split_folder(root, split)
        if not folder.is_dir():
            continue
        named = [p for p in sorted(folder.iterdir()) if p.is_dir() and _is_level(p.name)]
        for path in named or [folder]:
            counts[f"{split}/{path.name}" if named else split] = _images_below(path)
    return counts


def report_counts(root: Path, entry: Entry) -> int:
    """Warn where a number of images is not the published one; returns how many are not."""
    wrong = 0
    for folder, images in count_images(root).items():
        published = entry.counts.get(folder)
        if published is not None and not published.agrees(images):
            wrong += 1
            logger.warning("%s: %s", root, differs(folder, images, entry))
    return wrong


def differs(folder: str, images: int, entry: Entry) -> str:
    """Return a line that says by how much a folder's images are not as many as published."""
    published = entry.counts[folder]
    return (
        f"{folder} has {images} images, {images - published.images:+d} against the published {published.images} "
        f"({published.mark})"
    )


def _is_level(name: str) -> bool:
    return name == "database" or name.startswith("queries")


def _images_below(folder: Path) -> int:
    return sum(
        name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith(".")
        for _, _, files in os.walk(folder, followlinks=True)
        for name in files
    )
