"""Find somebody's pictures below a folder, and where each was taken: by a table, EXIF, a track, or a film's track."""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_vg.own import film
from datasets_vg.own.shots import Shot
from datasets_vg.own.tables import Row, degrees_of, number_of, read_rows, time_of, unread_cells, why_no_positions
from datasets_vg.own.tracks import EXTENSIONS as TRACKS
from datasets_vg.own.tracks import Track, read_track, seconds_of
from vgbench.data.exif import read_taken
from vgbench.data.listing import IMAGE_EXTENSIONS, left_out_line
from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

HEIC = (".heic", ".heif")
_NAMED = 5


@dataclass(frozen=True)
class OwnOptions:
    """How positions are found, and how pictures are divided.

    Attributes:
        positions: a CSV of positions by file name; None: every CSV in the folder that has such columns.
        track: of photographs without a position, and of films without a track beside them; None: every GPX there.
        utc_offset: hours by which the camera's clock is ahead of UTC, where its EXIF does not say; None: 0.
        max_gap: seconds between a photograph and the nearest point of a track, at most.
        step: metres between the frames of a film.
        split: "date", "area" or "hand" (`splitting.assign`).
        buffer: metres that pictures of two splits are apart at least.
    """

    positions: Path | None = None
    track: Path | None = None
    utc_offset: float | None = None
    max_gap: float = 30.0
    step: float = 5.0
    split: str = "date"
    buffer: float = 25.0


def collect(raw: Path, options: OwnOptions) -> list[Shot]:
    """Return the pictures below `raw` whose position is known, sorted by name; says which are left out.

    Raises:
        UserError: no such folder, no picture with a position, a table or a track that cannot be read.
    """
    if not raw.is_dir():
        raise UserError(f"--raw {raw}: no such folder. Expected a folder of photographs or films")
    files = _Files(raw)
    table = _table(files, options)
    # A table of positions by name is no track.
    loose = [read_track(file) for file in ([options.track] if options.track else files.tracks_alone())]
    told: Counter[str] = Counter()
    shots = [_photograph(path, name, table, loose, options, told) for name, path in files.images()]
    for name, path in files.films():
        track = files.track_of(path) or (loose[0] if loose else None)
        if track is None:
            LOG.warning("%s: left out: no track beside it (%s of the same name)", path, ", ".join(TRACKS))
            continue
        start = None if not track.clock else _film_start(path, track)
        shots += film.film_shots(path, name, track, options.step, start)
    located = sorted((shot for shot in shots if shot.located), key=lambda shot: shot.name)
    why = _why_lost([shot for shot in shots if not shot.located], loose)
    _report(raw, files, shots, told, table)
    if 0 < len(located) < len(shots):
        _report_lost(raw, [shot.name for shot in shots if not shot.located], why)
    if not located:
        raise UserError(
            f"--raw {raw}: no picture with a position among {len(shots)}{why}. Expected EXIF GPS, a CSV "
            "(name,lat,lon), or a GPX track of the same time (--track, --utc_offset)"
        )
    return located


class _Files:
    """The files below a folder, by kind."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.paths: list[Path] = []
        for here, folders, names in os.walk(raw, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            self.paths += [Path(here, name) for name in sorted(names) if not name.startswith(".")]
        self.heic = _open_heic() if self.of(*HEIC) else False

    def of(self, *extensions: str) -> list[Path]:
        return [path for path in self.paths if path.suffix.lower() in extensions]

    def images(self) -> list[tuple[str, Path]]:
        return self._named(self.of(*IMAGE_EXTENSIONS, *(HEIC if self.heic else ())))

    def films(self) -> list[tuple[str, Path]]:
        return self._named(self.of(*film.EXTENSIONS))

    def tracks_alone(self) -> list[Path]:
        """Return the GPX files that are of no one film."""
        stems = {path.with_suffix("") for path in self.of(*film.EXTENSIONS)}
        return [path for path in self.of(".gpx") if path.with_suffix("") not in stems]

    def tables(self) -> list[Path]:
        """Return the CSV files that are tables of positions; says why others, but the tracks of films, are none."""
        films = {path.with_suffix("") for path in self.of(*film.EXTENSIONS)}
        found = []
        for file in self.of(".csv"):
            why = why_no_positions(file)
            if not why:
                found.append(file)
            elif file.with_suffix("") not in films:
                LOG.warning("not used: %s", why)
        return found

    def track_of(self, path: Path) -> Track | None:
        """Return the track that lies beside a film under its name."""
        beside = [other for other in self.of(*TRACKS) if other.with_suffix("") == path.with_suffix("")]
        return read_track(beside[0]) if beside else None

    def left_out(self) -> Counter[str]:
        known = (*IMAGE_EXTENSIONS, *film.EXTENSIONS, *TRACKS, *(HEIC if self.heic else ()))
        return Counter(p.suffix.lower() or "(no extension)" for p in self.paths if p.suffix.lower() not in known)

    def _named(self, paths: list[Path]) -> list[tuple[str, Path]]:
        return [(path.relative_to(self.raw).as_posix(), path) for path in paths]


def _open_heic() -> bool:
    """Let Pillow open HEIC where its plugin is installed."""
    try:
        import pillow_heif  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _table(files: _Files, options: OwnOptions) -> dict[str, tuple[Row, str]]:
    """Return the rows of all tables of positions by the file's name, with where each stands."""
    chosen = [options.positions] if options.positions else files.tables()
    rows: dict[str, tuple[Row, str]] = {}
    for file in chosen:
        read = read_rows(file)
        for line in unread_cells(file, read):
            LOG.warning("%s", line)
        for number, row in enumerate(read, start=2):
            if "name" not in row:
                raise UserError(f"{file}: no column of file names. Expected a first line such as name,lat,lon")
            name, where = row["name"].replace("\\", "/"), f"{file}: line {number}"
            known, before = rows.setdefault(name, (row, where))
            if any(known.get(key) != row.get(key) for key in ("lat", "lon")):
                raise UserError(f"{where}: {name} has another position in {before}. Expected one; remove a line")
            rows[name] = (row, where)
    return rows


def _photograph(
    path: Path,
    name: str,
    table: Mapping[str, tuple[Row, str]],
    tracks: Sequence[Track],
    options: OwnOptions,
    told: Counter[str],
) -> Shot:
    taken = read_taken(path)
    utc = taken.utc
    if utc is None and taken.time is not None:
        with contextlib.suppress(OverflowError):  # before the year 1
            utc = taken.time - datetime.timedelta(hours=options.utc_offset or 0.0)
    shot = Shot(
        path, name, taken.latitude, taken.longitude, taken.heading, taken.altitude, taken.time, utc
    )  # what follows knows better
    row, where = table.get(name) or table.get(path.name) or (None, "")
    if row is not None:
        moment = time_of(row.get("time", ""))
        shot = replace(shot, time=moment or shot.time, split=row.get("split", ""), part=row.get("part", ""))
    if row is not None and (row.get("lat") or row.get("lon")):
        told["by a table"] += 1
        return shot.at(*degrees_of(row, where), number_of(row, "altitude"), number_of(row, "heading") % 360)
    if shot.located:
        told["by EXIF"] += 1
        return shot
    for track in tracks:
        found = track.at(seconds_of(utc), options.max_gap) if utc is not None and track.clock else None
        if found is not None:
            assumed = taken.utc is None and options.utc_offset is None
            told["by a track, their clock taken as UTC (else: --utc_offset HOURS)" if assumed else "by a track"] += 1
            return shot.at(*found)
    return shot


def _film_start(path: Path, track: Track) -> datetime.datetime | None:
    """Return when a film began, where its file was last written at a time that the track covers: at its end."""
    import cv2

    video = cv2.VideoCapture(str(path))
    rate, count = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
    video.release()
    length = count / rate if rate else 0.0
    begun = path.stat().st_mtime - length
    if not (track.seconds[0] - 1 <= begun and begun + length <= track.seconds[-1] + 1):
        LOG.info("%s: taken to begin with its track, %s", path, track.file.name)
        return None
    return datetime.datetime.fromtimestamp(begun, datetime.timezone.utc).replace(tzinfo=None)


def _report(
    raw: Path, files: _Files, shots: Sequence[Shot], told: Counter[str], table: Mapping[str, tuple[Row, str]]
) -> None:
    """Say how many pictures are placed by what, and which files and rows are not used."""
    ways = ", ".join(f"{count} {way}" for way, count in told.most_common())
    LOG.info("%s: %d pictures%s", raw, len(shots), f" ({ways})" if ways else "")
    names = {shot.name for shot in shots} | {Path(shot.name).name for shot in shots}
    unknown = [name for name in table if name not in names]
    if unknown:
        LOG.warning("%s: %d rows of tables name no picture here, such as %s", raw, len(unknown), unknown[0])
    left_out = files.left_out()
    count = sum(left_out[extension] for extension in HEIC)
    if count:
        LOG.warning("%s: %d HEIC photographs left out. Expected pillow-heif: pip install pillow-heif", raw, count)
    others = Counter({extension: n for extension, n in left_out.items() if extension not in HEIC})
    if others:
        LOG.info("%s", left_out_line(raw, others))


def _report_lost(raw: Path, names: Sequence[str], why: str) -> None:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = ", ".join(names[:_NAMED]) + more
    LOG.warning("%s: %d left out, nothing says where they were taken: %s%s", raw, len(names), listed, why)


def _why_lost(lost: Sequence[Shot], tracks: Sequence[Track]) -> str:
    """Say why tracks do not place these pictures, as the end of a sentence; '' where there are no tracks."""
    recorded = [f"{track.file.name} {track.span}" for track in tracks if track.clock]
    if not recorded or not lost:
        return ""
    moments = sorted(shot.utc for shot in lost if shot.utc is not None)
    reasons = []
    if moments:
        more = f" and {len(recorded) - 1} more" if len(recorded) > 1 else ""
        reasons.append(
            f"{len(moments)} of {moments[0]:%Y-%m-%d %H:%M} to {moments[-1]:%Y-%m-%d %H:%M} UTC, farther than "
            f"--max_gap from the track ({recorded[0]}{more}): does --utc_offset miss?"
        )
    if len(moments) < len(lost):
        reasons.append(f"{len(lost) - len(moments)} without a time in the EXIF")
    return f" ({'; '.join(reasons)})"


def spread_of(shots: Sequence[Shot]) -> tuple[int, bool]:
    """Return the UTM zone that all pictures go into, and whether it is the southern hemisphere's.

    Raises:
        UserError: they lie too far apart for one zone.
    """
    from vgbench.data.utm import zone_of

    zones = Counter(zone_of(shot.longitude, shot.latitude) for shot in shots)
    zone = zones.most_common(1)[0][0]
    middle = zone * 6 - 183
    far = max(shots, key=lambda shot: abs((shot.longitude - middle + 180) % 360 - 180))
    off = abs((far.longitude - middle + 180) % 360 - 180)
    if off > 12:
        near = next(shot for shot in shots if zone_of(shot.longitude, shot.latitude) == zone)
        raise UserError(
            f"{near.name} and {far.name}: too far apart for one UTM zone ({off:.0f} degrees of longitude from its "
            "middle). Expected one region; prepare each as a dataset of its own"
        )
    return zone, sum(math.copysign(1, shot.latitude) for shot in shots) < 0
