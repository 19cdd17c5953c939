"""San Francisco Landmarks (Chen et al., 2011), with the queries that have poses (Torii et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from datasets_vg.prepare.base import MissingRawError, Picture, Raw, files_below
from datasets_vg.prepare.naming import at_degrees, at_utm, protocol_name
from datasets_vg.prepare.run import FromRaw
from vgbench.errors import UserError

ZONE, LETTER = 10, "S"
QUERIES = "BuildingQueryImagesCartoIDCorrected-Upright"
POSES = "reference_poses_addTM_all_598.txt"
_FIELDS = 10


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the perspective views of the panoramas and the queries with poses; raises MissingRawError without them."""
    del name, part
    folder = raw.find(QUERIES, folder=True)
    poses = raw.find(f"reference_poses_598/{POSES}", POSES)
    missing = [text for text, found in ((QUERIES, folder), (f"reference_poses_598/{POSES}", poses)) if found is None]
    if missing or folder is None or poses is None:
        raise MissingRawError(f"{raw}: {', '.join(missing)} not there")
    views = _views(raw)
    first = next(views, None)
    if first is None:
        raise MissingRawError(f"{raw}: no views PCI_*.jpg (of PCIs_*_3.tar) there")
    yield first
    yield from views
    for image_id, east, north, heading in read_poses(poses):
        target = protocol_name(at_utm(east, north, ZONE, LETTER), image_id, heading=heading)
        yield Picture(f"images/test/queries/{target}", str(folder / f"{image_id}.jpg"))


def _views(raw: Raw) -> Iterator[Picture]:
    for root in raw.roots:
        for source in files_below(root, ".jpg"):
            name = source.rpartition("/")[2]
            if name.startswith("PCI_"):
                yield Picture(f"images/test/database/{view_name(name)}", source)


def view_name(name: str) -> str:
    """Read PCI_sp_<pano>_<lat>_<lon>_<building>_<tile>_<carto>_<heading>_<pitch>.jpg; raises UserError."""
    fields = name.removesuffix(".jpg").split("_")
    try:
        _, _, pano_id, latitude, longitude, _, tile_num, _, heading, pitch = fields
        place = at_degrees(float(latitude), float(longitude))
        return protocol_name(place, pano_id, tile_num=int(tile_num), heading=float(heading), pitch=float(pitch))
    except ValueError as error:
        raise UserError(f"{name}: Expected the {_FIELDS} fields of a view of San Francisco Landmarks") from error


def read_poses(file: Path) -> Iterator[tuple[str, float, float, float]]:
    """Yield image id, UTM (metres) and heading (degrees) of each line of nine fields; raises UserError."""
    for number, line in enumerate(file.read_text("utf-8").splitlines()):
        fields = line.split()
        if number == 0 or not fields:
            continue
        try:
            _, image_id, *quaternion, east, north, _ = fields
            x, y, w, z = map(float, quaternion)
            yield image_id, float(east), float(north), _heading(x, y, w, z)
        except ValueError as error:
            raise UserError(f"{file}: line {number + 1}: Expected nine fields, of which seven are numbers") from error


def _heading(x: float, y: float, w: float, z: float) -> float:
    yaw = math.atan2(2 * (z * x + y * w), 2 * (x * x + y * y) - 1)
    return ((yaw / math.pi + 1) * 180 + 180) % 360


PREPARER = FromRaw(arrange)
