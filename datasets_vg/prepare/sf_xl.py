"""SF-XL (Berton et al., 2022): published in the folder protocol, in parts from 1 GB to 240 GB."""

from __future__ import annotations

from datasets_vg.prepare.run import FromRaw
from vgbench.data.layout import SPLITS


def _splits(part: str) -> tuple[str, ...]:
    return {"small": SPLITS, "panoramas": ()}.get(part, (part,))


def _above(part: str) -> str:
    return "small" if part == "small" else ""


PREPARER = FromRaw(splits=_splits, above=_above)
