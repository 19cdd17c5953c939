"""faiss, for what needs it; everything else runs without."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgbench.errors import UserError


def load_faiss(wanted_by: str) -> Any:
    """Return the module; raises UserError that names the options `wanted_by` where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            f"{wanted_by}: faiss cannot be imported ({error}). Expected the package faiss-cpu or faiss-gpu; install "
            "one, or use --index exact, --quantise none and --search_backend torch"
        ) from error
    return faiss


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep what C code prints to the standard output off it: faiss tells of every growth of a list on disk."""
    if sys.platform == "win32":  # there the C library is not the process's own
        yield
        return
    library = ctypes.CDLL(None)
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
