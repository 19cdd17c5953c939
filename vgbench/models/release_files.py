"""Files of released weights: fetched once, whole, into torch's folder of checkpoints."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from vgbench.errors import UserError, about, in_short

_DRIVE_FILE = re.compile(r"https://drive\.google\.com/(?:file/d/|uc\?id=)([\w-]+)")
_DRIVE_FOLDER = re.compile(r"https://drive\.google\.com/drive/folders/([\w-]+)")
_HUGGING_FACE = "https://huggingface.co"


@dataclass(frozen=True)
class ReleaseFile:
    """A file that authors released.

    Attributes:
        url: of the file itself, on any server; of a file on Google Drive, or of the folder there that it is in.
        name: what it is called in torch's folder of checkpoints; in a folder of Google Drive, its name there too.
        checksum: "sha256:<hex>" or "md5:<hex>" where its authors give one.
        older: names of files there that serve as well, of earlier releases of the same network.
    """

    url: str
    name: str
    checksum: str = ""
    older: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return _folder() / self.name

    @property
    def here(self) -> Path | None:
        """The file, or one that serves as well; None where there is none yet."""
        return next((path for name in (self.name, *self.older) if (path := _folder() / name).is_file()), None)

    def fetched(self, what: str) -> Path:
        """Return the file, fetched if it is not there; what was cut is gone on with.

        Args:
            what: the option that asks for it, for messages.

        Raises:
            UserError: it cannot be had; the message says why, and where to put a file that was fetched elsewhere.
        """
        if self.here is not None:
            return self.here
        by_hand = (
            f"Expected {self.url} to be reachable; or fetch it elsewhere and name it with --weights, or put it at "
            f"{self.path}"
        )
        with about(what):
            return _fetch(self, by_hand)


def hugging_face(repository: str, file: str, name: str = "", older: tuple[str, ...] = ()) -> ReleaseFile:
    """Return a file of a Hugging Face repository "owner/name", kept as `name` ("<owner>_<name>_<file>" if not said)."""
    url = f"{_HUGGING_FACE}/{repository}/resolve/main/{file}"
    return ReleaseFile(url, name or f"{repository.replace('/', '_')}_{file}", older=older)


def google_drive(identity: str, name: str) -> ReleaseFile:
    """Return a file of Google Drive by its id."""
    return ReleaseFile(f"https://drive.google.com/uc?id={identity}", name)


def github(repository: str, version: str, file: str) -> ReleaseFile:
    """Return a file of a release of a GitHub repository "owner/name"."""
    return ReleaseFile(f"https://github.com/{repository}/releases/download/{version}/{file}", file)


def _folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _fetch(file: ReleaseFile, by_hand: str) -> Path:
    # Here, not above: what only looks at networks need not load what talks to servers.
    from datasets_vg.fetch.drive import download_drive
    from datasets_vg.fetch.http import download
    from datasets_vg.sources import Drive

    folder = _DRIVE_FOLDER.match(file.url)
    if folder is not None:
        return download_drive(Drive(_id_in_folder(file, folder[1], by_hand), file.name), file.path, by_hand)
    on_drive = _DRIVE_FILE.match(file.url)
    if on_drive is not None:
        return download_drive(Drive(on_drive[1], file.name), file.path, by_hand)
    url = file.url
    if url.startswith(f"{_HUGGING_FACE}/"):  # a mirror of it, as its own client takes one
        url = os.environ.get("HF_ENDPOINT", _HUGGING_FACE).rstrip("/") + url.removeprefix(_HUGGING_FACE)
    # One that gave nothing is not asked again: whoever has no connection is told so at once.
    return download(url, file.path, file.checksum, by_hand, attempts=1)


def _id_in_folder(file: ReleaseFile, folder: str, by_hand: str) -> str:
    """Return the id of a file in a folder of Google Drive; raises UserError if it is not there."""
    import gdown
    import requests

    try:
        found = gdown.download_folder(id=folder, skip_download=True, quiet=True, use_cookies=False, timeout=60.0)
    except (gdown.exceptions.DownloadError, requests.RequestException) as error:
        raise UserError(f"{file.url}: cannot be listed ({in_short(error)}). {by_hand}") from error
    names = {Path(one.path).name: str(one.id) for one in found if not isinstance(one, str)}
    if file.name not in names:
        listed = ", ".join(sorted(names)) or "nothing"
        raise UserError(f"{file.url}: {file.name} is not in that folder, which has {listed}. {by_hand}")
    return names[file.name]
