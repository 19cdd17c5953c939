"""Files of released weights: from web servers, Hugging Face and Google Drive, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gdown
import pytest
import torch
from archive_server import QUOTA_PAGE, Served, serving

from vgbench.errors import UserError
from vgbench.models.release_files import ReleaseFile, google_drive, hugging_face

CONTENT = bytes(range(256)) * 1000


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    yield tmp_path / "checkpoints"


def test_a_mirror_of_hugging_face_cut_in_mid_file(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/owner/name/resolve/main/model.safetensors"
    with serving(Served({path: CONTENT}, cut_after=[100_000])) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url + "/")
        file = hugging_face("owner/name", "model.safetensors")
        for _ in range(2):
            assert file.fetched("--method x").read_bytes() == CONTENT
    assert served.asked == ["", "bytes=100000-"]
    assert [found.name for found in checkpoints.iterdir()] == ["owner_name_model.safetensors"]


def test_a_checksum_that_does_not_fit_is_refused(checkpoints: Path) -> None:
    right = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    with serving(Served({"/w.pth": CONTENT})) as served:
        with pytest.raises(UserError, match=r"--method x: .*wrong checksum"):
            ReleaseFile(f"{served.url}/w.pth", "bad.pth", "sha256:" + 64 * "0").fetched("--method x")
        assert ReleaseFile(f"{served.url}/w.pth", "w.pth", right).fetched("--method x") == checkpoints / "w.pth"


def test_an_older_file_of_the_same_network_serves(checkpoints: Path) -> None:
    checkpoints.mkdir()
    (checkpoints / "old.pth").write_bytes(CONTENT)
    file = ReleaseFile("http://127.0.0.1:9/none", "new.pth", older=("older.pth", "old.pth"))
    assert file.fetched("--method x") == checkpoints / "old.pth"


def test_without_a_connection_it_says_so_at_once(checkpoints: Path) -> None:
    with pytest.raises(UserError) as told:
        ReleaseFile("http://127.0.0.1:9/w.pth", "w.pth").fetched("--method x")
    assert str(told.value).startswith("--method x: http://127.0.0.1:9/w.pth: cannot be fetched (the connection broke).")
    assert str(checkpoints / "w.pth") in str(told.value) and "--weights" in str(told.value)


def test_google_drives_quota_page(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    def page(url: str, output: str, **options: object) -> None:
        assert url == "https://drive.google.com/uc?id=abc-1"
        Path(output).write_bytes(QUOTA_PAGE)

    monkeypatch.setattr(gdown, "download", page)
    with pytest.raises(UserError, match=r"--method x: .*quota is used up.*name it with --weights"):
        google_drive("abc-1", "w.pth").fetched("--method x")
    assert not list(checkpoints.iterdir())


def test_a_file_in_a_folder_of_google_drive(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    def listed(**options: object) -> list[SimpleNamespace]:
        assert options["id"] == "fo-1" and options["skip_download"]
        return [SimpleNamespace(id="one", path="sub/a.ckpt"), SimpleNamespace(id="two", path="b.ckpt")]

    def download(url: str, output: str, **options: object) -> None:
        Path(output).write_text(url)

    monkeypatch.setattr(gdown, "download_folder", listed)
    monkeypatch.setattr(gdown, "download", download)
    folder = "https://drive.google.com/drive/folders/fo-1"
    assert ReleaseFile(folder, "b.ckpt").fetched("--method x").read_text().endswith("id=two")
    with pytest.raises(UserError, match=r"c\.ckpt is not in that folder, which has a\.ckpt, b\.ckpt"):
        ReleaseFile(folder, "c.ckpt").fetched("--method x")
