"""Where the queries were taken, by their predictions, and how far off that is: tables and maps for other programs."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpxpy.gpx
import numpy as np
from numpy.typing import NDArray

from vgbench.data import Split
from vgbench.data.exif import located
from vgbench.data.positions import in_same_frame
from vgbench.data.utm import latitude_longitude, zones
from vgbench.files import write_text
from vgbench.report.tables.text import plain_cell
from vgbench.retrieval.metrics.findings import Findings
from vgbench.retrieval.metrics.pose import QUANTILES
from vgbench.retrieval.predictions import Predictions

TABLE, GEOJSON, KML, GPX = "predictions.csv", "predictions.geojson", "predictions.kml", "predictions.gpx"
MATCHES = 5  # best matches of a query in the table
_KML = "http://www.opengis.net/kml/2.2"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placed:
    """Where Q queries were taken: predicted, and in truth as far as that is known.

    Attributes:
        split, predictions, findings: what it is made of.
    """

    split: Split
    predictions: Predictions
    findings: Findings

    @functools.cached_property
    def zone(self) -> NDArray[np.str_]:
        """The UTM zone of each best match, text [Q] such as "31U", '' where names do not say."""
        return zones(self.split.database, self.predictions.indices[:, 0])

    @functools.cached_property
    def best(self) -> Floats:
        """Latitude and longitude of each best match, degrees, float64 [Q,2], NaN without a zone."""
        return latitude_longitude(self.findings.poses.best, self.zone)

    @functools.cached_property
    def weighted(self) -> Floats:
        """The same of what the candidates agree on."""
        return latitude_longitude(self.findings.poses.weighted, self.zone)

    @functools.cached_property
    def true_utm(self) -> Floats:
        """Metres of the queries in the database's frame, float64 [Q,2]; of photographs by EXIF; NaN if unknown."""
        queries, database = self.split.queries, self.split.database
        if not queries.upright or np.isfinite(queries.utm).all():
            return queries.utm
        return in_same_frame(located(queries), database.zone)

    @functools.cached_property
    def true(self) -> Floats:
        """Latitude and longitude of the queries, degrees, float64 [Q,2], NaN if unknown."""
        known = np.isfinite(self.true_utm).all(1)
        degrees = np.full(self.true_utm.shape, np.nan)
        # Of one frame with the database: a query without a zone in its name has that of its match.
        own = zones(self.split.queries, np.flatnonzero(known)) if self.split.located else self.zone[known]
        own = np.where(own == "", self.zone[known], own)
        degrees[known] = latitude_longitude(self.true_utm[known], own)
        return degrees

    def errors(self, which: str) -> Floats:
        """Return how far the "best" or "weighted" positions are off, metres, float64 [Q], NaN if unknown."""
        return np.asarray(np.hypot(*(getattr(self.findings.poses, which) - self.true_utm).T))

    def facts(self) -> dict[str, Any]:
        """Return what EXIF positions of photographs without labels say, as results.json holds it; {} without any."""
        off = {name: self.errors(name) for name in ("best", "weighted")}
        known = np.isfinite(off["best"])
        if self.split.located or not known.any():
            return {}
        return {
            "photographs": len(known),
            "with_gps": int(known.sum()),
            **{
                name: {
                    str(q): round(float(v), 2)
                    for q, v in zip(QUANTILES, np.percentile(one[known], QUANTILES), strict=True)
                }
                for name, one in off.items()
            },
        }


def write_positions(folder: Path, placed: Placed) -> list[Path]:
    """Write predictions.csv and, where the database says its UTM zone, .geojson, .kml and .gpx; returns their paths.

    Columns of the table: `file`; `latitude`, `longitude` (degrees), `utm_east`, `utm_north` (metres) and `utm_zone` of
    the best match; the same, `weighted_`, of what the candidates agree on (`pose.predicted_poses`); the same, `true_`,
    of the query; `error` and `weighted_error` (metres); `confidence`, 0 to 1; and `match_1`, `distance_1`, ... What is
    not known is empty.

    Raises:
        UserError: a file cannot be written.
    """
    writers = {TABLE: _table}
    if np.isfinite(placed.best).all(1).any():
        writers |= {GEOJSON: _geojson, KML: _kml, GPX: _gpx}
    for name, write in writers.items():
        write_text(folder / name, write(placed))
    return [folder / name for name in writers]


def _table(placed: Placed) -> str:
    predictions, poses = placed.predictions, placed.findings.poses
    count = min(MATCHES, predictions.indices.shape[1])
    position = ["latitude", "longitude", "utm_east", "utm_north"]
    header = ["file", *position, "utm_zone", *(f"weighted_{name}" for name in position)]
    header += [*(f"true_{name}" for name in position), "error", "weighted_error", "confidence"]
    header += [f"{what}_{rank}" for rank in range(1, count + 1) for what in ("match", "distance")]
    errors = np.stack([placed.errors("best"), placed.errors("weighted")], axis=1)
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(header)
    for row, name in enumerate(placed.split.queries.relative_paths()):
        cells = [plain_cell(name), *_position(placed.best[row], poses.best[row]), str(placed.zone[row])]
        cells += _position(placed.weighted[row], poses.weighted[row])
        cells += _position(placed.true[row], placed.true_utm[row])
        cells += [*(_number(value, 2) for value in errors[row]), _number(placed.findings.confidence[row], 4)]
        for index, distance in zip(predictions.indices[row, :count], predictions.distances[row, :count], strict=True):
            cells += [plain_cell(placed.split.database.relative_path(int(index))), f"{distance:.6g}"]
        table.writerow(cells)
    return buffer.getvalue()


def _geojson(placed: Placed) -> str:
    """Points where queries are predicted, points where they were, and lines between the two."""
    features = []
    for row, name, facts in _rows(placed):
        best, true = _lon_lat(placed.best[row]), _lon_lat(placed.true[row])
        features.append(_feature("Point", best, {"file": name, "kind": "predicted", **facts}))
        if true is not None:
            features.append(_feature("Point", true, {"file": name, "kind": "true"}))
            features.append(_feature("LineString", [true, best], {"file": name, "kind": "error", **facts}))
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False) + "\n"


def _kml(placed: Placed) -> str:
    ET.register_namespace("", _KML)
    root = ET.Element(f"{{{_KML}}}kml")
    document = ET.SubElement(root, f"{{{_KML}}}Document")
    for row, name, facts in _rows(placed):
        best, true = _lon_lat(placed.best[row]), _lon_lat(placed.true[row])
        for kind, at in (("Point", [best]), ("LineString", [true, best])):
            if None in at:
                continue
            mark = ET.SubElement(document, f"{{{_KML}}}Placemark")
            ET.SubElement(mark, f"{{{_KML}}}name").text = name
            ET.SubElement(mark, f"{{{_KML}}}description").text = ", ".join(f"{k} {v}" for k, v in facts.items())
            shape = ET.SubElement(mark, f"{{{_KML}}}{kind}")
            text = " ".join(f"{p[0]},{p[1]}" for p in at if p is not None)
            ET.SubElement(shape, f"{{{_KML}}}coordinates").text = text
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _gpx(placed: Placed) -> str:
    """Waypoints where queries are predicted."""
    content = gpxpy.gpx.GPX()
    content.creator = "vgbench"
    for row, name, facts in _rows(placed):
        latitude, longitude = (round(value, 7) for value in placed.best[row].tolist())
        text = ", ".join(f"{k} {v}" for k, v in facts.items())
        content.waypoints.append(gpxpy.gpx.GPXWaypoint(latitude, longitude, name=name, description=text))
    return str(content.to_xml()) + "\n"


def _rows(placed: Placed) -> list[tuple[int, str, dict[str, Any]]]:
    """Return row, printable name, and what is known of each query that is on the map."""
    errors, confidence = placed.errors("best"), placed.findings.confidence
    on_map = np.flatnonzero(np.isfinite(placed.best).all(1)).tolist()
    found = []
    for row in on_map:
        match = placed.split.database.relative_path(int(placed.predictions.indices[row, 0]))
        facts: dict[str, Any] = {"match": _text(match)}
        if math.isfinite(errors[row]):
            facts["error_m"] = round(float(errors[row]), 2)
        if math.isfinite(confidence[row]):
            facts["confidence"] = round(float(confidence[row]), 4)
        found.append((row, _text(placed.split.queries.relative_path(row)), facts))
    return found


def _feature(kind: str, coordinates: Any, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def _lon_lat(degrees: Floats) -> list[float] | None:
    """Return longitude and latitude, in which order maps want them; None where unknown."""
    return [round(float(degrees[1]), 7), round(float(degrees[0]), 7)] if np.isfinite(degrees).all() else None


def _text(name: str) -> str:
    """Return a file name that XML and JSON can hold."""
    readable = name.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in readable)


def _position(degrees: Floats, utm: Floats) -> list[str]:
    return [*(_number(value, 7) for value in degrees), *(_number(value, 2) for value in utm)]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""
