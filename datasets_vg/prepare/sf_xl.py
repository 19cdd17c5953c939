"""SF-XL (Berton et al., 2022): published in the folder protocol, in parts from 1 GB to 240 GB."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from datasets_vg.choices import AUTO
from datasets_vg.prepare.base import MissingRawError, Picture, Raw, Request
from datasets_vg.prepare.panoramas import arrange_panoramas
from datasets_vg.prepare.run import FromRaw
from vgbench.data.layout import SPLITS
from vgbench.errors import UserError


def _splits(part: str) -> tuple[str, ...]:
    return {"small": SPLITS, "panoramas": ()}.get(part, (part,))


def _above(part: str) -> str:
    return "small" if part == "small" else ""


def arrange(raw: Raw, name: str, part: str, headings: str = AUTO) -> Iterator[Picture]:
    """Yield the images of a part, which is published in the folder protocol; raises MissingRawError without it."""
    if part == "panoramas":
        return arrange_panoramas(raw, headings)
    raise MissingRawError(f"{raw}: no {', '.join(_splits(part))} of {name} with images named as docs/datasets.md says")


class _SfXl:
    """What `prepare sf_xl` does: --headings is for its panoramas."""

    own_options = ("headings",)

    def prepare(self, request: Request) -> Path:
        """Prepare the parts that are asked for; raises UserError where --headings has no panoramas to be of."""
        headings = str(request.own.get("headings", AUTO))
        if "headings" in request.own and "panoramas" not in request.parts:
            raise UserError("--headings: is of the panoramas. Expected it with --part panoramas; leave it out")
        made = functools.partial(arrange, headings=headings)
        return FromRaw(made, splits=_splits, above=_above).prepare(request)


PREPARER = _SfXl()
