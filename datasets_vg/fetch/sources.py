"""From the archives of a catalogue row to folders of raw files."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path

from datasets_vg.fetch.drive import download_drive
from datasets_vg.fetch.http import download
from datasets_vg.fetch.rsync import transfer
from datasets_vg.fetch.space import check_space
from datasets_vg.fetch.unpack import is_archive, unpack
from datasets_vg.sources import Drive, Http, Part, Rsync
from vgbench.errors import UserError

logger = logging.getLogger(__name__)


def fetched(part: Part, scratch: Path, by_hand: str) -> tuple[Path, ...]:
    """Fetch and unpack the archives of a part below `scratch`; return the folders with its raw files.

    What is there already is not fetched again, and what was cut is gone on with.

    Raises:
        UserError: an archive cannot be fetched or unpacked, or there is no space.
    """
    downloads, opened, folders = scratch / "downloads", scratch / "unpacked", scratch / "rsync"
    if not scratch.is_dir():
        check_space(scratch, int(part.gigabytes * 1e9), "fetching it")
    for archive in part.archives:
        if isinstance(archive, Rsync):
            _transfer_once(archive, folders, by_hand)
            continue
        if (opened / ".unpacked" / archive.name).is_file():
            continue
        file = downloads / archive.name
        if isinstance(archive, Drive):
            download_drive(archive, file, by_hand)
        else:
            download(archive.url, file, archive.checksum, by_hand)
        if isinstance(archive, Http) and archive.may_be_empty and file.stat().st_size == 0:
            logger.info("%s: is published empty", archive.name)
        elif is_archive(file):
            unpack(file, opened)
    _unpack_inner(opened)
    return tuple(folder for folder in (opened, folders) if folder.is_dir())


def unpacked(raw: Path, archives: Sequence[str], scratch: Path) -> tuple[Path, ...]:
    """Return the folders with the raw files of somebody who has them: `raw`, and what its archives held.

    Args:
        raw: the folder.
        archives: names of archives, with * and ?; others are left alone. Those which somebody unpacked beside them too.
        scratch: where they are unpacked.

    Raises:
        UserError: no such folder, or an archive that cannot be unpacked.
    """
    if not raw.is_dir():
        raise UserError(f"--raw {raw}: no such folder. Expected a folder with the raw files, unpacked or not")
    found = [
        path
        for path in sorted(raw.iterdir())
        if path.is_file() and is_archive(path) and any(fnmatch.fnmatch(path.name, pattern) for pattern in archives)
    ]
    # A patch has newer versions of files of the other archives, so it comes last.
    for archive in sorted(found, key=lambda path: (path.name.startswith("patch"), path.name)):
        if not (raw / archive.name.partition(".")[0]).is_dir():
            unpack(archive, scratch)
    _unpack_inner(scratch)
    return (raw.resolve(), *([scratch] if scratch.is_dir() else []))


def _transfer_once(source: Rsync, folder: Path, by_hand: str) -> None:
    # Its files are moved away as they are put in place, and must not be asked for once more then.
    mark = folder / f".{source.name.replace('/', '_')}.complete"
    if not mark.is_file():
        transfer(source, folder, by_hand)
        mark.touch()


def _unpack_inner(folder: Path) -> None:
    """Unpack the archives that were in an archive."""
    if not folder.is_dir():
        return
    for archive in [path for pattern in ("*", "*/*") for path in folder.glob(pattern)]:
        if archive.is_file() and is_archive(archive) and archive.parent.name != ".unpacked":
            unpack(archive, folder)
