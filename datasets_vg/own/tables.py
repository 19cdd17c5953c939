"""Tables of positions (CSV), as spreadsheets and loggers write them."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vgbench.data.positions import is_plain_decimal
from vgbench.data.utm import check_degrees
from vgbench.errors import UserError

# What the columns may be called, in small letters; the first is how messages name them.
NAMES = {
    "name": ("name", "file", "filename", "file_name", "image", "path", "photo"),
    "lat": ("lat", "latitude", "y", "gpslatitude"),
    "lon": ("lon", "lng", "long", "longitude", "x", "gpslongitude"),
    "heading": ("heading", "bearing", "yaw", "direction", "compass", "ca", "course"),
    "altitude": ("altitude", "alt", "height", "ele", "elevation"),
    "time": ("time", "timestamp", "datetime", "date", "utc", "captured_at"),
    "split": ("split",),
    "part": ("part", "role"),
}

Row = Mapping[str, str]


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a CSV, by the names that `NAMES` gives its columns; unknown columns are left out.

    Commas, semicolons or tabs part the columns, with semicolons a comma may be the decimal point; a byte-order mark is
    passed over.

    Raises:
        UserError: no text, or no columns of latitude and longitude.
    """
    try:
        text = file.read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}). Expected a CSV") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: cannot be read as text ({error}). Expected a CSV in UTF-8") from error
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    lines = csv.reader(io.StringIO(text), delimiter=separator)
    header = [cell.strip().lower() for cell in next(lines, [])]
    columns = {header.index(one): known for known, names in NAMES.items() for one in names[::-1] if one in header}
    if not {"lat", "lon"} <= set(columns.values()):
        raise UserError(
            f"{file}: no columns of latitude and longitude in {', '.join(header) or 'an empty file'}. Expected a first "
            "line such as name,lat,lon,heading,time"
        )
    rows: list[Row] = []
    for cells in lines:
        row = {known: cells[number].strip() for number, known in columns.items() if number < len(cells)}
        if separator == ";":
            row |= {key: row[key].replace(",", ".") for key in ("lat", "lon", "heading", "altitude") if key in row}
        if any(row.values()):
            rows.append(row)
    return rows


def why_no_positions(file: Path) -> str:
    """Say why a CSV is no table of positions by file name; '' where it is one."""
    try:
        rows = read_rows(file)
    except UserError as error:
        return str(error)
    if not rows:
        return f"{file}: no rows below the first line. Expected a row for each picture"
    return "" if "name" in rows[0] else f"{file}: no column of file names. Expected a first line such as name,lat,lon"


def unread_cells(file: Path, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each column in which there are cells that cannot be read; they count as unknown."""
    readable = {
        "heading": (is_plain_decimal, "degrees clockwise from north"),
        "altitude": (is_plain_decimal, "metres"),
        "time": (lambda text: time_of(text) is not None, "2024-05-17T10:00:00, or seconds since 1970"),
    }
    for key, (is_read, expected) in readable.items():
        bad = [(number, row[key]) for number, row in enumerate(rows, start=2) if row.get(key) and not is_read(row[key])]
        if bad:
            number, text = bad[0]
            yield (
                f"{file}: {len(bad)} of {len(rows)} cells of {key} cannot be read and count as unknown, such as "
                f"{text!r} in line {number}. Expected {expected}"
            )


def degrees_of(row: Row, where: str) -> tuple[float, float]:
    """Return latitude and longitude of a row, in degrees.

    Raises:
        UserError: they are no plain decimals, or out of range.
    """
    for key in ("lat", "lon"):
        if not is_plain_decimal(row.get(key, "")):
            raise UserError(
                f"{where}: {key} {row.get(key, '')!r} is no plain decimal. Expected degrees such as 52.20516"
            )
    latitude, longitude = float(row["lat"]), float(row["lon"])
    try:
        check_degrees(latitude, longitude)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return latitude, longitude


def number_of(row: Row, key: str) -> float:
    """Return a number of a row, NaN where there is none."""
    text = row.get(key, "")
    return float(text) if is_plain_decimal(text) else math.nan


def time_of(text: str) -> datetime.datetime | None:
    """Return a moment: ISO 8601, EXIF's form, YYYYMMDD[_hhmmss], or seconds since 1970; zones become UTC."""
    text = text.strip()
    if not text:
        return None
    if is_plain_decimal(text) and len(text.partition(".")[0]) >= 9:
        seconds = float(text)
        try:
            moment = datetime.datetime.fromtimestamp(seconds / (1000 if seconds > 1e11 else 1), datetime.timezone.utc)
        except (OverflowError, ValueError, OSError):  # beyond the year 9999
            return None
        return moment.replace(tzinfo=None)
    for form in ("%Y:%m:%d %H:%M:%S", "%Y%m%d_%H%M%S", "%Y%m%d", "%d.%m.%Y %H:%M:%S"):
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(text, form)
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    with contextlib.suppress(OverflowError):  # the year 0 in UTC
        return moment if moment.tzinfo is None else moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return None
