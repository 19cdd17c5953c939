"""Unpacking archives of strangers: nothing lands outside the folder, and nothing fills the disk."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from datasets_vg.fetch.space import check_space, in_bytes
from vgbench.errors import UserError

_MARKS = ".unpacked"  # the folder of the marks
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
RATIO, ALWAYS_FINE = 100, 2**30
"""A bomb: it unpacks to more than 1 GiB and to more than a hundred times its own size (photographs hardly shrink)."""


class _Member(NamedTuple):
    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


def is_archive(file: Path) -> bool:
    """Whether a file's name ends as that of an archive that can be unpacked here."""
    return file.name.lower().endswith(ENDINGS)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive (zip, tar, packed tar) into `folder`, among what is there, and return the folder.

    Members are written whole or not at all, so that an interrupted call goes on; a mark in `<folder>/.unpacked` says
    that all are there, and then nothing is done.

    Raises:
        UserError: no archive or a damaged one; a member that would land outside the folder, a link out of it, a device;
            a bomb; no space.
    """
    mark = folder / _MARKS / archive.name
    if mark.is_file():
        return folder
    try:
        with _opened(archive) as members:
            checked = _checked(members, archive, folder)
            with tqdm(total=len(checked), desc=f"unpacking {archive.name}", unit="file", delay=1.0) as bar:
                for member in checked:
                    _write(member, folder, archive)
                    bar.update()
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
        raise UserError(
            f"{archive}: is damaged or no archive ({error}). Expected a whole {' or '.join(ENDINGS[:3])}; fetch it "
            f"again: rm '{archive}', then the same command"
        ) from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be unpacked to {folder} ({error.strerror or error})") from error
    return folder


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield _zip_members(packed, archive)
    else:
        with tarfile.open(archive) as tar:
            yield _tar_members(tar, archive)


def _zip_members(packed: zipfile.ZipFile, archive: Path) -> Iterator[_Member]:
    for info in packed.infolist():
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            raise UserError(f"{archive}: {info.filename} is locked with a password. Expected an open archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _refused(archive, info.filename, "a link")
        yield _Member(info.filename, info.file_size, lambda info=info: packed.open(info))  # type: ignore[misc]


def _tar_members(tar: tarfile.TarFile, archive: Path) -> Iterator[_Member]:
    known: dict[str, tarfile.TarInfo] = {}
    for info in tar:
        known[os.path.normpath(info.name)] = info
        if info.isdir():
            continue
        if not (info.isfile() or info.issym() or info.islnk()):
            raise _refused(archive, info.name, "a device or a pipe")
        held = info if info.isfile() else _linked(info, known, tar, archive)
        yield _Member(info.name, held.size, lambda held=held: tar.extractfile(held))  # type: ignore[misc]


def _linked(
    link: tarfile.TarInfo, known: dict[str, tarfile.TarInfo], tar: tarfile.TarFile, archive: Path
) -> tarfile.TarInfo:
    """Return the member that a link stands for: it is written once more, so that no link is ever made."""
    base = PurePosixPath(link.name).parent if link.issym() else PurePosixPath()
    name = os.path.normpath(base / link.linkname)
    if _stays_inside(name) and name not in known:
        known |= {os.path.normpath(info.name): info for info in tar.getmembers()}
    if not _stays_inside(name) or name not in known or not known[name].isfile():
        raise _refused(archive, link.name, f"a link to {link.linkname}, which is no file in it")
    return known[name]


def _checked(members: Iterator[_Member], archive: Path, folder: Path) -> list[_Member]:
    checked, total, packed = [], 0, archive.stat().st_size
    for member in members:
        if not _stays_inside(member.name):
            raise _refused(archive, member.name, "a file that would land outside the folder")
        if _parts(member.name)[:1] in ([], [_MARKS]):
            raise _refused(archive, member.name, "no name of a file")
        total += member.size
        # Asked at each member: the list of a packed bomb takes hours to read to its end.
        if total > max(ALWAYS_FINE, RATIO * packed):
            raise UserError(
                f"{archive}: refused, it is {in_bytes(packed)} and would unpack to {in_bytes(total)} or more. Expected "
                "an archive of images, which hardly shrink; fetch it from its publisher"
            )
        checked.append(member)
    check_space(folder, total, f"unpacking {archive}")
    return checked


def _stays_inside(name: str) -> bool:
    plain = name.replace("\\", "/")
    drive = len(plain) > 1 and plain[1] == ":"
    return not (plain.startswith("/") or drive or ".." in plain.split("/") or "\0" in plain)


def _parts(name: str) -> list[str]:
    """Return the folders and the file of a member's name; none where it names the folder itself."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _refused(archive: Path, member: str, what: str) -> UserError:
    return UserError(
        f"{archive}: refused, {member!r} in it is {what}. Expected plain files; fetch it from its publisher"
    )


def _write(member: _Member, folder: Path, archive: Path) -> None:
    target = folder / member.name
    if target.is_file() and target.stat().st_size == member.size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unpacking")
    source = member.open()
    if source is None:
        raise _refused(archive, member.name, "no plain file")
    with source, unfinished.open("wb") as stream:
        shutil.copyfileobj(source, stream, 2**20)
        written = stream.tell()
    if written != member.size:  # zipfile and tarfile stop at the size that is declared; less is a damaged archive
        unfinished.unlink()
        raise EOFError(f"{member.name} has {written} of {member.size} bytes")
    unfinished.replace(target)
