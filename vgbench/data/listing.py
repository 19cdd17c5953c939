"""The image files below a folder, in order: by walking it, or by the list that lies beside it."""

# Millions of paths stay bytes here: a Path object each would cost more than reading them.
# ruff: noqa: PTH110, PTH116, PTH118, PTH123

from __future__ import annotations

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vgbench.errors import UserError

LOG = logging.getLogger(__name__)

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
INDEX_SUFFIX = "_images_paths.txt"
# Left out in silence they would be missed: pictures and films that are not read as they are.
_OTHER_PICTURES = frozenset(
    (
        *(".heic", ".heif", ".avif", ".gif", ".jxl", ".jp2", ".ppm", ".pgm", ".insp", ".insv"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".orf", ".rw2"),
        *(".mp4", ".mov", ".avi", ".mkv", ".webm"),
    )
)
_AT_ONCE = 1024  # names that are objects at a time
_ENDINGS = tuple(extension.encode() for extension in IMAGE_EXTENSIONS)


def is_image(name: bytes) -> bool:
    """Say whether a file's name is that of an image that is read; hidden ones are not."""
    return name.lower().endswith(_ENDINGS) and not name.startswith(b".")


def index_of(folder: Path) -> Path:
    """Return the file that would list a folder's images."""
    return folder.with_name(folder.name + INDEX_SUFFIX)


def image_names(folder: Path, left_out: Counter[str] | None = None) -> Iterator[bytes]:
    """Yield the relative paths of the images below a folder, at any depth.

    Where a list of them lies beside the folder (`index_of`), the paths come in its order and the folder is not walked;
    else they are sorted. Hidden files are passed over; links to folders are followed.

    Args:
        left_out: counts the other files by extension.

    Raises:
        UserError: a folder that cannot be listed, a list of files that are not there.
    """
    left_out = Counter() if left_out is None else left_out
    index = index_of(folder)
    if index.is_file():
        yield from _indexed(index, folder, left_out)
    else:
        yield from walk(os.fsencode(folder), left_out)


def report_left_out(folder: Path, left_out: Counter[str]) -> None:
    """Say in one line which files are no images that are read; a warning where some are pictures all the same."""
    if not left_out:
        return
    pictures = not _OTHER_PICTURES.isdisjoint(left_out)
    LOG.log(logging.WARNING if pictures else logging.INFO, "%s", left_out_line(folder, left_out))


def left_out_line(folder: Path, left_out: Counter[str]) -> str:
    """Return the line that says which files were left out, by extension, the most frequent first."""
    counts = ", ".join(f"{count} {extension}" for extension, count in sorted(left_out.items(), key=_by_count))
    heic = "; HEIC photographs are read by `python3 -m datasets_vg prepare folder`" if ".heic" in left_out else ""
    return f"{folder}: left out: {counts} (read are {' '.join(IMAGE_EXTENSIONS)}{heic})"


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _extension(name: bytes) -> str:
    return os.path.splitext(os.fsdecode(name))[1].lower() or "(no extension)"  # noqa: PTH122


def walk(
    folder: bytes,
    left_out: Counter[str],
    prefix: bytes = b"",
    ancestors: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[bytes]:
    """Yield the relative paths of the images below a folder, sorted: a folder sorts as its name with a slash.

    Args:
        left_out: counts the other files by extension.
        prefix: what the paths begin with.
        ancestors: device and inode of each folder above, into which no link leads back.

    Raises:
        UserError: a folder that cannot be listed.
    """
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:  # a link to a folder above it
        return
    names: list[bytes] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name[:1] == b".":
                    continue
                if entry.is_dir():
                    names.append(name + b"/")
                elif name[-4:] == b".jpg" or is_image(name):  # most are that, of millions
                    names.append(name)
                else:
                    left_out[_extension(name)] += 1
    except OSError as error:
        raise UserError(
            f"{os.fsdecode(folder)}: cannot be listed ({error.strerror}). Expected a folder that you may read"
        ) from error
    if not prefix and not any(name[-1:] == b"/" for name in names):
        yield from _in_order(names)
        return
    for name in _in_order(names):
        if name.endswith(b"/"):
            yield from walk(os.path.join(folder, name[:-1]), left_out, prefix + name, ancestors | {identity})
        else:
            yield prefix + name


def _in_order(names: list[bytes]) -> Iterator[bytes]:
    """Yield names sorted, and empty the list: an object for each outweighs what is read from the name."""
    names.sort()
    blocks = [b"\0".join(names[start : start + _AT_ONCE]) for start in range(0, len(names), _AT_ONCE)]
    names.clear()
    blocks.reverse()
    while blocks:
        yield from blocks.pop().split(b"\0")


def _indexed(index: Path, folder: Path, left_out: Counter[str]) -> Iterator[bytes]:
    """Yield the paths of an index file relative to the folder; only a new prefix costs a look at the disk."""
    known: bytes | None = None
    name = os.fsencode(folder.name) + b"/"
    with open(index, "rb") as lines:
        for number, raw in enumerate(lines):
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 0 else raw
            line = line.rstrip(b"\r\n")
            if b"/" not in line:
                line = line.replace(b"\\", b"/")
            line = _one_spelling(line, index, number)
            if not is_image(line.rpartition(b"/")[2]):
                if line and not line.rpartition(b"/")[2].startswith(b"."):
                    left_out[_extension(line)] += 1
                continue
            # Relative to the folder so far, but this line names the folder itself: it may be relative to the parent.
            doubtful = known == b"" and line.startswith(name)
            if known is None or doubtful or not line.startswith(known):
                known = _prefix_to_drop(line, folder, index)
            yield line[len(known) :]


def _one_spelling(line: bytes, index: Path, number: int) -> bytes:
    """Return a path of an index file without steps that lead nowhere, so that one image has one spelling."""
    while line.startswith((b"./", b"../", b"/")):
        line = line.partition(b"/")[2]
    if b"\0" in line:
        raise UserError(f"{index}: line {number + 1} holds a NUL byte. Expected a path a line; write it again")
    if b"//" not in line and b"/." not in line:
        return line
    plain = posixpath.normpath(line)
    if plain.startswith(b".."):
        raise UserError(
            f"{index}: line {number + 1} leaves the folder by '..': {os.fsdecode(line)}. Expected paths below it; "
            f"mend the line, or to walk the folder instead: rm '{index}'"
        )
    return plain


def _prefix_to_drop(line: bytes, folder: Path, index: Path) -> bytes:
    start = 0
    while True:
        if os.path.exists(os.path.join(os.fsencode(folder), line[start:])):
            return line[:start]
        start = line.find(b"/", start) + 1
        if start == 0:
            raise UserError(
                f"{index}: lists {os.fsdecode(line)}, which is not in {folder}. Expected paths relative to that folder "
                f"or to its parent; to walk the folder instead: rm '{index}'"
            )
