"""Tokyo 24/7 (Torii et al., 2015): views of Street View panoramas, and queries by phone at day, sunset and night."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.dbstruct import read_db_struct
from datasets_vg.prepare.images import as_rgb, shorter_side
from datasets_vg.prepare.naming import at_degrees, at_utm, protocol_name
from datasets_vg.prepare.run import FromRaw
from vgbench.errors import UserError

ZONE, LETTER = 54, "S"
QUERY_SIDE = 480
"""Pixels of a query's shorter side, as the published preparer has it."""
_PANO_ID = 22
_DEGREES_A_TILE = 30


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the database (PNG to JPEG) or the queries (made smaller)."""
    del name
    return _queries(raw) if part == "queries" else _database(raw)


def _database(raw: Raw) -> Iterator[Picture]:
    mat = raw.find("datasets/tokyo247.mat", "tokyo247.mat")
    if mat is None:
        raise MissingRawError(f"{raw}: datasets/tokyo247.mat (of netvlad_v100_datasets.tar.gz) is not there")
    database, _ = read_db_struct(mat)
    above = {top: raw.find(top, folder=True) for top in sorted({n.partition("/")[0] for n in database.names})}
    missing = [top for top, folder in above.items() if folder is None]
    if missing:
        raise MissingRawError(f"{raw}: {', '.join(missing)} (folders of PNG, or .tar) not there")
    for path, (east, north) in zip(database.names, database.utm.tolist(), strict=True):
        top = above[path.partition("/")[0]]
        assert top is not None
        source = top.parent / str(PurePosixPath(path).with_suffix(".png"))
        place = at_utm(east, north, ZONE, LETTER)
        target = protocol_name(place, source.name[:_PANO_ID], tile_num=_tile(source.name))
        yield Picture(f"images/test/database/{target}", str(source), functools.partial(as_rgb, source))


def _tile(name: str) -> int:
    """Return the view's number, 0 to 11, from the direction in <22 characters>_012_<degrees>.png."""
    degrees = name.partition("_012_")[2].partition(".")[0]
    if not degrees.isdecimal():
        raise UserError(f"{name}: Expected the name of a view such as <panorama>_012_330.png")
    return int(degrees) // _DEGREES_A_TILE


def _queries(raw: Raw) -> Iterator[Picture]:
    folder = raw.need("247query_subset_v2", "queries/247query_subset_v2", folder=True)
    files = sorted(path for path in folder.rglob("*.jpg"))
    missing = [path.stem + ".csv" for path in files if not path.with_suffix(".csv").is_file()]
    if missing:
        raise MissingRawError(f"{folder}: {', '.join(missing)} not there, with the positions of the queries")
    for source in files:
        latitude, longitude = _position(source.with_suffix(".csv"))
        # The panorama field keeps the name with its ending: a slip of the first preparer that all copies share.
        target = protocol_name(at_degrees(latitude, longitude), source.name)
        yield Picture(f"images/test/queries/{target}", str(source), functools.partial(_smaller, source))


def _position(file: Path) -> tuple[float, float]:
    fields = file.read_text("utf-8").splitlines()[:1]
    try:
        _, latitude, longitude = fields[0].split(",")[:3]
        return float(latitude), float(longitude)
    except (IndexError, ValueError) as error:
        raise UserError(f"{file}: Expected a first line of name,latitude,longitude,...") from error


def _smaller(source: Path) -> Image.Image:
    return shorter_side(as_rgb(source), QUERY_SIDE)


PREPARER = FromRaw(arrange)
