"""Downloads from web servers: resumed where they were cut, tried again, checked."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import logging
import re
import time
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from datasets_vg.fetch.space import check_space
from vgbench.errors import UserError, in_short

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""How often in a row a transfer may end without a new byte before it is given up."""
WAIT = 1.0
"""Seconds before the second try; doubled each time."""
_LONGEST_WAIT = 120.0
_TIMEOUT = (20, 60)
_BLOCK = 2**18
_GONE = (401, 403, 404, 410, 451)


class _CutError(Exception):
    """The transfer ended before the file did; it is worth another try."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def download(url: str, file: Path, checksum: str = "", by_hand: str = "", attempts: int = ATTEMPTS) -> Path:
    """Fetch a file whole or not at all; returns `file`, which is left alone where it is there already.

    What has arrived stays in `<file>.part` with the server's mark of the version beside it, so that the next call goes
    on from there; a server that cannot do ranges, or has another version by now, starts from the first byte.

    Args:
        url: its address.
        file: where it goes.
        checksum: "md5:<hex>" or "sha256:<hex>"; none: the length alone is checked.
        by_hand: what a person can do instead, for the message when the address is dead.
        attempts: how often in a row a transfer may end without a new byte before it is given up.

    Raises:
        UserError: the server cannot be reached, does not have the file, sends a web page in its place, or one whose
            checksum is wrong twice; no space.
    """
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    for last_time in (False, True):
        _transfer(url, part, by_hand, attempts)
        refuse_web_page(part, url, by_hand)
        if not checksum or _digest(part, checksum) == checksum.partition(":")[2].lower():
            break
        _forget(part)
        if last_time:
            raise UserError(
                f"{url}: arrived twice with a wrong checksum. Expected {checksum}: the file was changed or damaged on "
                f"its way. {by_hand}"
            )
        logger.warning("%s: arrived with a wrong checksum; fetching it again", url)
    part.replace(file)
    _version(part).unlink(missing_ok=True)
    return file


def refuse_web_page(file: Path, url: str, by_hand: str = "") -> None:
    """Raise UserError where a web page arrived in place of a file, such as a quota notice; the page is removed."""
    with file.open("rb") as stream:
        start = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start.startswith((b"<!doctype html", b"<html", b"<head")):
        return
    text = file.read_bytes()[: 2**20].decode("utf-8", "replace")
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    quota = re.search(r"quota|too many users|download limit", text, re.IGNORECASE)
    _forget(file)
    said = f" ({' '.join(title.group(1).split())})" if title else ""
    why = "its quota is used up for now: try again in a day" if quota else "it may want a login, or the address changed"
    raise UserError(f"{url}: a web page{said} came in place of the file; {why}. {by_hand}")


def _transfer(url: str, part: Path, by_hand: str, attempts: int) -> None:
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _try(url, part, by_hand)
            return
        except _CutError as cut:
            after = part.stat().st_size if part.exists() else 0
            failures = 0 if after > before else failures + 1
            if failures >= attempts:
                often = f", {attempts} times in a row" if attempts > 1 else ""
                raise UserError(
                    f"{url}: cannot be fetched ({cut}){often}. Expected a connection to that "
                    f"server; the same command goes on from here. {by_hand}"
                ) from cut
            wait = min(WAIT * 2**failures if cut.wait is None else cut.wait, _LONGEST_WAIT)
            logger.warning("%s: %s; going on in %.0f s", url, cut, wait)
            time.sleep(wait)


def _try(url: str, part: Path, by_hand: str) -> None:
    start = part.stat().st_size if part.exists() else 0
    version = _read_version(part)
    # The bytes of the archive itself: a server that packs them once more would make lengths and ranges meaningless.
    headers = {"Accept-Encoding": "identity"}
    if start and version.get("mark"):
        headers |= {"Range": f"bytes={start}-", "If-Range": version["mark"]}
    elif start:
        headers |= {"Range": f"bytes={start}-"} if version.get("url") == url else {}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            _receive(response, url, part, start, by_hand)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _CutError(_plainly(error)) from error
    except requests.RequestException as error:
        raise UserError(f"{url}: cannot be fetched ({in_short(error)}). {by_hand}") from error


def _receive(response: requests.Response, url: str, part: Path, start: int, by_hand: str) -> None:
    total = _check(response, url, part, start, by_hand)
    if total is None:  # all of it had arrived already
        return
    resumed = response.status_code == 206
    mark = response.headers.get("ETag", "")
    mark = "" if mark.startswith("W/") else mark or response.headers.get("Last-Modified", "")
    _version(part).write_text(json.dumps({"url": url, "mark": mark}), "utf-8")
    done = start if resumed else 0
    check_space(part.parent, total - done, url)
    with (
        part.open("ab" if resumed else "wb") as stream,
        tqdm(total=total or None, initial=done, desc=part.stem, unit="B", unit_scale=True, unit_divisor=1000) as bar,
    ):
        try:
            # Not iter_content, which loses the beginning of a block that is cut.
            while block := response.raw.read1(_BLOCK):
                stream.write(block)
                done += len(block)
                bar.update(len(block))
        except urllib3.exceptions.HTTPError as error:
            raise _CutError(f"cut after {done} of {total or 'unknown'} bytes") from error
        except OSError as error:
            if isinstance(error, (ConnectionError, TimeoutError)):
                raise _CutError("the connection broke") from error
            raise UserError(
                f"{part}: cannot be written ({error.strerror}). Expected a folder with space left; the same command "
                "goes on"
            ) from error
    if total and done < total:
        raise _CutError(f"cut after {done} of {total} bytes")


def _check(response: requests.Response, url: str, part: Path, start: int, by_hand: str) -> int | None:
    """Return how many bytes the whole file has, 0 where the server does not say; None: they are here already."""
    code = response.status_code
    if code == 416:
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
        if size == str(start):
            return None
        _forget(part)
        raise _CutError("the server has another version by now, starting anew", 0)
    if code in _GONE:
        raise UserError(
            f"{url}: the server says {code} {response.reason}: the address may have died or want a login. {by_hand}"
        )
    if code == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start:
            _forget(part)
            raise _CutError("the server sent another range than asked for, starting anew", 0)
        return int(match[2]) + 1 if match[3] == "*" else int(match[3])
    if code != 200:
        raise _CutError(f"the server says {code} {response.reason}", _retry_after(response))
    return int(response.headers.get("Content-Length", 0))


def _retry_after(response: requests.Response) -> float | None:
    said = response.headers.get("Retry-After", "")
    if said.isdigit():
        return float(said)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    return None


def _plainly(error: Exception) -> str:
    text = str(error)
    if re.search(r"resolve|getaddrinfo|Name or service", text):
        return "its name is not known to this machine's network"
    return "timed out" if isinstance(error, requests.Timeout) else "the connection broke"


def _digest(file: Path, checksum: str) -> str:
    kind = checksum.partition(":")[0]
    digest = hashlib.new(kind)
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _version(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_version(part: Path) -> dict[str, str]:
    try:
        known = json.loads(_version(part).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version(part).unlink(missing_ok=True)
