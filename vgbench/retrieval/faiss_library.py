"""faiss, for what needs it; everything else runs without."""

from __future__ import annotations

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
