"""Prediction files of the MSLS challenge: a line per query, its key and those of its predictions, parted by spaces."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vgbench.errors import UserError
from vgbench.files import write_text, written_whole

Ranked = dict[str, list[str]]
"""By the key of a query, the keys of its predictions, best first."""
_WRITTEN_BY = "eval.py --pairs_out FILE --pairs_format msls"


def read_predictions(files: Sequence[Path]) -> Ranked:
    """Read and join prediction files; a .zip has one of them in it.

    Raises:
        UserError: a file that cannot be read or is of another format, a query that is there twice, lines with different
            numbers of predictions (the server reads a table).
    """
    ranked: Ranked = {}
    source: dict[str, Path] = {}
    for file in files:
        for number, line in enumerate(_text(file).splitlines(), start=1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            _check_line(file, number, words)
            if words[0] in ranked:
                raise UserError(
                    f"{file}: line {number}: the query {words[0]} is in {source[words[0]]} already. Expected each "
                    "query once: one file for each city"
                )
            ranked[words[0]], source[words[0]] = words[1:], file
    if not ranked:
        raise UserError(f"{files[0]}: no predictions. Expected a file of {_WRITTEN_BY}")
    _check_depth(ranked, source)
    return ranked


def _text(file: Path) -> str:
    try:
        if file.suffix.lower() != ".zip":
            return file.read_text("utf-8")
        with zipfile.ZipFile(file) as packed:
            names = [name for name in packed.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise UserError(f"{file}: {len(names)} files in it. Expected one, the predictions")
            return packed.read(names[0]).decode("utf-8")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: cannot be read ({reason}). Expected a file of {_WRITTEN_BY}") from error


def _check_line(file: Path, number: int, words: Sequence[str]) -> None:
    if len(words) == 1:
        raise UserError(
            f"{file}: line {number}: no predictions for {words[0]}. Expected its key and theirs, parted by spaces"
        )
    odd = next((word for word in words if "," in word or "/" in word), None)
    if odd is not None:
        raise UserError(f"{file}: line {number}: {odd} is no key of an image. Expected a file of {_WRITTEN_BY}")


def _check_depth(ranked: Ranked, source: Mapping[str, Path]) -> None:
    depths = Counter(map(len, ranked.values()))
    if len(depths) == 1:
        return
    usual = depths.most_common(1)[0][0]
    query = next(query for query, keys in ranked.items() if len(keys) != usual)
    raise UserError(
        f"{source[query]}: {len(ranked[query])} predictions for {query}, {usual} for most. Expected equally many: "
        "write all files with the same --pairs_num"
    )


def write_predictions(output: Path, ranked: Ranked, queries: Iterable[str] | None = None) -> int:
    """Write a prediction file, or as .zip with one .csv in it, which the server takes; returns how many queries.

    Args:
        queries: only these; None for all.

    Raises:
        UserError: another ending, or a file that cannot be written.
    """
    check_ending(output)
    wanted = list(ranked) if queries is None else list(queries)
    text = "".join(" ".join([query, *ranked[query]]) + "\n" for query in wanted)
    if output.suffix.lower() != ".zip":
        write_text(output, text)
        return len(wanted)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        # The same predictions make the same bytes: without the time of day.
        archive.writestr(zipfile.ZipInfo(f"{output.stem}.csv"), text, zipfile.ZIP_DEFLATED)
    with written_whole(output) as partial:
        partial.write_bytes(packed.getvalue())
    return len(wanted)


def check_ending(output: Path) -> None:
    """Raise UserError where a prediction file cannot have this name."""
    if output.suffix.lower() not in (".zip", ".csv", ".txt"):
        raise UserError(f"--output {output}: Expected .zip (what the server takes), .csv or .txt")
