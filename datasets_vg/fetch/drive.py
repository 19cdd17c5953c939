"""Downloads from Google Drive, by gdown."""

from __future__ import annotations

import re
from pathlib import Path

import gdown
import requests

from datasets_vg.fetch.http import refuse_web_page
from datasets_vg.fetch.space import check_space
from datasets_vg.sources import Drive
from vgbench.errors import UserError, in_short

RETRIES = 5


def download_drive(source: Drive, file: Path, by_hand: str = "") -> Path:
    """Fetch a file of Google Drive; returns `file`, which is left alone where it is there. A cut one is gone on with.

    Raises:
        UserError: Google's quota for the file is used up, the file is gone, or Google cannot be reached.
    """
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    asked: list[int] = []

    def check(done: int, total: int | None) -> None:
        if total and not asked:
            asked.append(total)
            check_space(file.parent, total - done, source.name)

    try:
        gdown.download(
            source.url, str(file), resume=True, retries=RETRIES, timeout=60.0, use_cookies=False, progress=check
        )
    except gdown.exceptions.DownloadError as error:
        raise UserError(f"{source.url}: {_reason(str(error))}. {by_hand}") from error
    except requests.RequestException as error:
        raise UserError(f"{source.url}: cannot be reached ({in_short(error)}). {by_hand}") from error
    except OSError as error:
        raise UserError(
            f"{file}: cannot be written ({error.strerror}). Expected a folder with space left; the same command goes on"
        ) from error
    refuse_web_page(file, source.url, by_hand)
    return file


def _reason(said: str) -> str:
    if re.search(r"too many users|quota|many accesses", said, re.IGNORECASE):
        return (
            "Google Drive refuses it: most likely its quota for this file is used up for today (or the file is no "
            "longer public); try again in a day, or fetch it with a browser that is signed in"
        )
    return f"Google Drive does not give it ({' '.join(said.split())[:200]})"
