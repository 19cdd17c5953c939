"""Pitts30k and Pitts250k (Torii et al., 2013; splits of Arandjelovic et al., 2016): 24 x 2 views of each panorama."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from datasets_vg.prepare.base import MissingRawError, Picture, Raw
from datasets_vg.prepare.dbstruct import Listed, read_db_struct
from datasets_vg.prepare.naming import Place, protocol_name
from datasets_vg.prepare.run import FromRaw
from vgbench.data.utm import from_latitude_longitude, to_latitude_longitude
from vgbench.errors import UserError

ZONE, LETTER, YAWS = 17, "T", 24
_VIEW = re.compile(r"([^_]+)_(pitch(\d+)_yaw(\d+))\.jpg")


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the images that `<name>_<part>.mat` lists, at its positions; raises MissingRawError without it."""
    mat = raw.find(f"datasets/{name}_{part}.mat", f"{name}_{part}.mat")
    if mat is None:
        raise MissingRawError(f"{raw}: datasets/{name}_{part}.mat (of netvlad_v100_datasets.tar.gz) is not there")
    database, queries = read_db_struct(mat)
    lists = raw.find(f"{name}-{part}_dbImages.npy", folder=False)
    if lists is not None:
        above_database, above_queries = _by_list(lists), _by_list(lists.with_name(f"{name}-{part}_qImages.npy"))
    else:
        above_database, above_queries = _by_folder(raw, database)
    yield from _pictures(database, above_database, f"images/{part}/database")
    yield from _pictures(queries, above_queries, f"images/{part}/queries")


Where = Callable[[str], Path]
"""From a name in the .mat to the raw file."""


def _by_folder(raw: Raw, database: Listed) -> tuple[Where, Where]:
    """Find the folders 000, 001, ... and queries_real, as the archives have them."""
    tops = sorted({listed.partition("/")[0] for listed in database.names})
    found = {top: raw.find(top, folder=True) for top in tops}
    queries_real = raw.find("queries_real", folder=True)
    missing = [top for top, folder in found.items() if folder is None]
    missing += ["queries_real"] if queries_real is None else []
    if missing or queries_real is None:
        raise MissingRawError(f"{raw}: {', '.join(missing)} (folders or .tar) not there")
    above = {top: folder.parent for top, folder in found.items() if folder is not None}
    return (lambda path: above[path.partition("/")[0]] / path), (lambda path: queries_real / path)


def _by_list(file: Path) -> Where:
    """Find images by their own names in a list of relative paths, which a ready zip has beside them (OpenVPRLab)."""
    try:
        paths = [str(path) for path in np.load(file, allow_pickle=False)]
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}). Expected a list of relative paths") from error
    known = {path.rpartition("/")[2]: file.parent / path for path in paths}
    return lambda path: known.get(path.rpartition("/")[2], file.parent / path)


def _pictures(listed: Listed, where: Where, target: str) -> Iterator[Picture]:
    for path, place in zip(listed.names, _places(listed), strict=True):
        source = where(path)
        yield Picture(f"{target}/{view_name(source.name, place)}", str(source))


def view_name(name: str, place: Place) -> str:
    """Read the name of a view such as 000829_pitch1_yaw1.jpg, whose pitch and yaw are its tile; raises UserError."""
    match = _VIEW.fullmatch(name)
    if match is None:
        raise UserError(f"{name}: Expected the name of a view such as 000829_pitch1_yaw1.jpg")
    pano_id, note, pitch, yaw = match.groups()
    return protocol_name(place, pano_id, tile_num=(int(pitch) - 1) * YAWS + int(yaw) - 1, note=note)


def _places(listed: Listed) -> Iterator[Place]:
    latitudes, longitudes = to_latitude_longitude(listed.utm[:, 0], listed.utm[:, 1], ZONE, LETTER)
    known: dict[tuple[float, float], Place] = {}  # the views of a panorama share one
    for latitude, longitude in np.stack([latitudes, longitudes], axis=1).tolist():
        if (latitude, longitude) not in known:
            utm = from_latitude_longitude(latitude, longitude, ZONE)
            known = {(latitude, longitude): Place(utm.east, utm.north, ZONE, LETTER, latitude, longitude)}
        yield known[latitude, longitude]


PREPARER = FromRaw(arrange)
