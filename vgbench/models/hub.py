"""One's own networks on the Hugging Face hub: `hf://owner/name`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from vgbench.errors import UserError, in_short
from vgbench.models.network import Network
from vgbench.models.pretrained_folder import CONFIG, MODEL, write_folder

SCHEME = "hf://"
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def name_of(path: Path) -> str | None:
    """Return the "owner/name[@revision]" of `hf://owner/name[@revision]`, typed as a path; None of others."""
    text = path.as_posix()  # to which two slashes are one
    return text.removeprefix("hf:").lstrip("/") if text.startswith("hf:/") else None


def fetch(name: str) -> Path:
    """Return the file of a network's weights, its configuration beside it, in the hub's own cache.

    Args:
        name: "owner/name", or "owner/name@revision".

    Raises:
        UserError: it is no such name, there is no such network, or the hub cannot be reached.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UserError(f"{SCHEME}{name}: is no name of the hub. Expected hf://owner/name or hf://owner/name@revision")
    from huggingface_hub import hf_hub_download

    with _told(f"{SCHEME}{name}", "Expected a network that save_pretrained wrote, and a connection; or its folder"):
        _check_reachable(found[1], found[2])
        hf_hub_download(found[1], CONFIG, revision=found[2], endpoint=_endpoint())
        return Path(hf_hub_download(found[1], MODEL, revision=found[2], endpoint=_endpoint()))


def _check_reachable(repository: str, revision: str | None) -> None:
    """Ask once for what is not in the cache: told to fetch it, the client tries six times without a connection."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if all(isinstance(try_to_load_from_cache(repository, file, revision=revision), str) for file in (CONFIG, MODEL)):
        return
    get_hf_file_metadata(hf_hub_url(repository, MODEL, revision=revision, endpoint=_endpoint()), endpoint=_endpoint())


def push(network: Network, size: tuple[int, int], name: str, private: bool) -> str:
    """Put a network into a repository of the hub, "owner/name", which is made where there is none; returns its address.

    Raises:
        UserError: the hub refuses it or cannot be reached, or `write_folder` does.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        write_folder(network, size, Path(folder))
        remedy = "Expected owner/name, a connection, and a token that may write: hf auth login, or HF_TOKEN"
        with _told(f"{SCHEME}{name}", remedy):
            hub = HfApi(endpoint=_endpoint())
            address = hub.create_repo(name, private=private, exist_ok=True)
            hub.upload_folder(
                repo_id=address.repo_id, folder_path=folder, commit_message=f"{network.name} of vgbench",
            )  # fmt: skip
    return str(address)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")  # which its client reads only once


@contextmanager
def _told(what: str, remedy: str) -> Iterator[None]:
    """Say in one line what the hub's client does not do."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its first base is the error of the HTTP library that the client uses, which its versions change.
    failures = cast(tuple[type[Exception], ...], (*HfHubHTTPError.__bases__, OSError, ValueError))
    try:
        yield
    except failures as error:
        raise UserError(f"{what}: {in_short(error).rstrip('.')}. {remedy}") from error
