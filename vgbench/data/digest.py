"""What is in a dataset's folder, as a few hex digits: another digest means other images."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path


@functools.cache
def folder_digest(root: Path) -> str:
    """Return a digest of the paths and sizes of all files below a folder, '' where there is none.

    The content of files is not read: a set of a million images takes seconds.
    """
    if not root.is_dir():
        return ""
    whole = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            whole.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()[:16]
