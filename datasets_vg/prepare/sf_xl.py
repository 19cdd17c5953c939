"""SF-XL (Berton et al., 2022): published in the folder protocol, in parts from 1 GB to 240 GB."""

from __future__ import annotations

from collections.abc import Iterator

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.panoramas import arrange_panoramas
from datasets_vg.prepare.run import FromRaw
from vgbench.data.layout import SPLITS


def _splits(part: str) -> tuple[str, ...]:
    return {"small": SPLITS, "panoramas": ()}.get(part, (part,))


def _above(part: str) -> str:
    return "small" if part == "small" else ""


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the views of the panoramas; the other parts are published in the folder protocol."""
    if part == "panoramas":
        return arrange_panoramas(raw)
    raise MissingRawError(f"{raw}: no {', '.join(_splits(part))} of {name} with images named as docs/datasets.md says")


PREPARER = FromRaw(arrange, splits=_splits, above=_above)
