"""The public datasets by name: what they are, from where their raw archives come, what becomes of them here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from vgbench.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One public dataset.

    Attributes:
        about: what it shows, in a few words.
        source: who gives the raw archive, and where.
        layout: how its images are laid out below <datasets_folder>/<name>/.
    """

    about: str
    source: str
    layout: str = "images/{train,val,test}/{database,queries}"


_TEST_ONLY = "images/test/{database,queries}"
_PITTSBURGH = "the authors of NetVLAD, on request by the form at https://www.di.ens.fr/willow/research/netvlad/"
_TOKYO = "the authors of 24/7 place recognition, on request: http://www.ok.ctrl.titech.ac.jp/~torii/project/247/"
_COSPLACE = "the authors of CosPlace, by the form linked from https://github.com/gmberton/CosPlace"
_SVOX = "https://github.com/valeriopaolicelli/SVOX-Dataset (database from Street View, queries from Oxford RobotCar)"
_GSV = "https://github.com/amaralibey/gsv-cities (archive on Kaggle: amaralibey/gsv-cities)"

PUBLIC = {
    "pitts30k": Entry("Pittsburgh, Street View, 30k images", _PITTSBURGH),
    "pitts250k": Entry("Pittsburgh, Street View, 250k images", _PITTSBURGH),
    "msls": Entry("30 cities, dash cameras, 1.6M images", "Mapillary, after sign-up: https://www.mapillary.com/dataset/places"),
    "tokyo247": Entry("Tokyo, Street View; queries by phone, day to night", _TOKYO, _TEST_ONLY),
    "tokyo_xs": Entry("Tokyo 24/7, a small database", _TOKYO, _TEST_ONLY),
    "tokyo_night": Entry("Tokyo 24/7, the queries taken at night", _TOKYO, _TEST_ONLY),
    "sf_xl": Entry("San Francisco, Street View, 41M images", _COSPLACE, "images/{train,val/{database,queries},test/{database,queries_v1,queries_v2}}"),
    "sf_xs": Entry("SF-XL, a small part of it", _COSPLACE, "images/{train,val/{database,queries},test/{database,queries_v1,queries_v2}}"),
    "san_francisco": Entry(
        "San Francisco Landmarks, 1.06M images", "https://purl.stanford.edu/vn158kj2087 (Stanford Digital Repository)", _TEST_ONLY
    ),
    "eynsham": Entry("Oxfordshire by car, two rounds", "https://www.robots.ox.ac.uk/~mobile/IJRR_2010_Dataset/ (Oxford)", _TEST_ONLY),
    "st_lucia": Entry("a suburb of Brisbane by car", "https://wiki.qut.edu.au/display/cyphy/St+Lucia+Multiple+Times+of+Day (QUT)", _TEST_ONLY),
    "svox": Entry("Oxford, Street View against five weathers", _SVOX, "images/{train,val,test}/{database,queries,queries_night,...}"),
    "nordland": Entry(
        "a railway in four seasons", "https://nrkbeta.no/2013/01/15/nordlandsbanen-minute-by-minute-season-by-season/ (NRK)",
        "images/test/{database,queries} with the frame number as easting",
    ),
    "amstertime": Entry("Amsterdam, archive photographs against today's", "https://doi.org/10.4121/19580806 (4TU.ResearchData)", _TEST_ONLY),
    "sped": Entry("static cameras through the year", "https://github.com/MubarizZaffar/VPR-Bench (SPEDTEST)", _TEST_ONLY),
    "baidu": Entry("a shopping mall, indoors", "the authors of 'A Dataset for Benchmarking Image-based Localization' (CVPR 2017)", _TEST_ONLY),
    "gsv_cities": Entry("23 cities, places for training, 530k images", _GSV, "Images/<City>/*.jpg and Dataframes/<City>.csv"),
    "gsv_xs": Entry("GSV-Cities, a small part of it", _GSV, "<City>/@...@<place_id>@.jpg"),
}  # fmt: skip

SYNTHETIC = {"synthetic_city": "a procedural city, made here without a download"}


def how_to_get(name: str, datasets_folder: Path) -> str:
    """Return the line that says where a public dataset comes from and where its images belong.

    Raises:
        UserError: no such dataset.
    """
    entry = PUBLIC.get(name)
    if entry is None:
        close = difflib.get_close_matches(name, [*SYNTHETIC, *PUBLIC], n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(
            f"dataset {name}: not known.{hint} To see the known ones: python3 -m datasets_vg list; for your own images "
            "see docs/datasets.md"
        )
    return (
        f"{name}: its images cannot be downloaded by this command; they come from {entry.source}. Expected them in "
        f"{datasets_folder / name}/{entry.layout}, named as docs/datasets.md says; then: python3 -m datasets_vg verify {name}"
    )
