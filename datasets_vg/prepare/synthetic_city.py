"""The synthetic city, which is made here: no raw files, no download."""

from __future__ import annotations

from pathlib import Path

from datasets_vg.prepare.base import Request
from datasets_vg.synthetic_city.prepare import DEFAULT_IMAGES, CityOptions, prepare
from vgbench.errors import UserError


class SyntheticCity:
    """Draws the city of a seed, of a number of images."""

    own_options = ("seed", "images", "scale")

    def prepare(self, request: Request) -> Path:
        """Make the city and return its folder; raises UserError."""
        if request.raw is not None or request.parts:
            raise UserError("--raw, --part: the synthetic city has no raw files and no parts; leave them out")
        scale = float(str(request.own.get("scale", 1.0)))
        images = int(str(request.own.get("images", round(DEFAULT_IMAGES * scale))))
        seed = int(str(request.own.get("seed", 0)))
        return prepare(request.datasets_folder, CityOptions(seed, images), request.jobs)


PREPARER = SyntheticCity()
