"""Downloads from a server that this test starts: cut, without ranges, changed, wrong, a page in place of the file."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from archive_server import QUOTA_PAGE, Served, serving

from datasets_vg.fetch import http
from datasets_vg.fetch.drive import download_drive
from datasets_vg.fetch.http import download
from datasets_vg.sources import Drive
from vgbench.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WAIT", 0.0)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_a_file_arrives_whole_and_is_not_asked_for_again(tmp_path: Path) -> None:
    with serving(Served({"/a.zip": CONTENT})) as served:
        for _ in range(2):
            assert download(f"{served.url}/a.zip", tmp_path / "new" / "a.zip", sha256(CONTENT)).read_bytes() == CONTENT
    assert served.asked == [""]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.zip"]


def test_cut_in_mid_file_it_goes_on_from_there(tmp_path: Path) -> None:
    with serving(Served({"/a.zip": CONTENT}, cut_after=[100_000, 50_000])) as served:
        assert download(f"{served.url}/a.zip", tmp_path / "a.zip", sha256(CONTENT)).read_bytes() == CONTENT
    assert served.asked == ["", "bytes=100000-", "bytes=150000-"]


def test_without_ranges_it_starts_anew_and_is_right(tmp_path: Path) -> None:
    with serving(Served({"/a.zip": CONTENT}, ranges=False, cut_after=[100_000])) as served:
        assert download(f"{served.url}/a.zip", tmp_path / "a.zip", sha256(CONTENT)).read_bytes() == CONTENT
    assert len(served.asked) == 2


def test_another_call_goes_on_where_one_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Served({"/a.zip": CONTENT}, cut_after=[200_000])) as served:

        def interrupted(seconds: float) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(http.time, "sleep", interrupted)
            download(f"{served.url}/a.zip", tmp_path / "a.zip")
        assert not (tmp_path / "a.zip").exists()
        assert (tmp_path / "a.zip.part").stat().st_size == 200_000
        assert download(f"{served.url}/a.zip", tmp_path / "a.zip").read_bytes() == CONTENT
    assert served.asked == ["", "bytes=200000-"]


def test_a_file_that_changed_meanwhile_is_not_glued_together(tmp_path: Path) -> None:
    other = CONTENT[::-1]
    served = Served({"/a.zip": CONTENT}, cut_after=[100_000], changes={"/a.zip": other})
    with serving(served):
        assert download(f"{served.url}/a.zip", tmp_path / "a.zip").read_bytes() == other


def test_a_part_that_was_whole_already_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    with serving(Served({"/a.zip": CONTENT})) as served:
        (tmp_path / "a.zip.part.json").write_text(f'{{"url": "{served.url}/a.zip", "mark": ""}}')
        assert download(f"{served.url}/a.zip", tmp_path / "a.zip", sha256(CONTENT)).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with serving(Served({"/a.zip": CONTENT}, failures=[503, 429])) as served:
        assert download(f"{served.url}/a.zip", tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_wrong_checksum_is_fetched_once_more_and_then_refused(tmp_path: Path) -> None:
    with serving(Served({"/a.zip": b"x" + CONTENT[1:]}, changes={"/a.zip": CONTENT})) as served:
        assert download(f"{served.url}/a.zip", tmp_path / "a.zip", sha256(CONTENT)).read_bytes() == CONTENT
    told = r"b\.zip: arrived twice with a wrong checksum\. Expected md5:00"
    with serving(Served({"/b.zip": CONTENT})) as served, pytest.raises(UserError, match=told):
        download(f"{served.url}/b.zip", tmp_path / "b.zip", "md5:" + 32 * "0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_a_page_in_place_of_the_file(tmp_path: Path) -> None:
    with serving(Served({"/a.zip": QUOTA_PAGE, "/b.zip": b"<html>\n<title>Sign in</title>"})) as served:
        with pytest.raises(UserError, match=r"a web page .*Quota exceeded.* its quota is used up") as raised:
            download(f"{served.url}/a.zip", tmp_path / "a.zip", by_hand="By hand: ask them.")
        assert str(raised.value).endswith("By hand: ask them.")
        with pytest.raises(UserError, match=r"Sign in.*may want a login"):
            download(f"{served.url}/b.zip", tmp_path / "b.zip")
    assert not list(tmp_path.iterdir())


def test_a_dead_address_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    told = r"the server says 404 .* may have died.*By hand"
    with serving(Served({})) as served, pytest.raises(UserError, match=told):
        download(f"{served.url}/gone.zip", tmp_path / "gone.zip", by_hand="By hand: ask them.")
    with pytest.raises(UserError, match=r"cannot be fetched \(the connection broke\), 6 times in a row"):
        download(f"{served.url}/gone.zip", tmp_path / "gone.zip")  # which has ended
    assert not list(tmp_path.iterdir())


def test_space_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with (
        serving(Served({"/a.zip": CONTENT})) as served,
        pytest.raises(UserError, match=r"needs 300\.0 kB, and the disk"),
    ):
        download(f"{served.url}/a.zip", tmp_path / "a.zip")


class _LocalDrive(Drive):
    """A file of Google Drive whose address is the test's server."""

    @property
    def url(self) -> str:
        return self.id


def test_google_drive_by_gdown_cut_and_gone_on_with(tmp_path: Path) -> None:
    content = 8 * CONTENT  # gdown keeps blocks of half a megabyte
    with serving(Served({"/uc": content}, cut_after=[1_200_000])) as served:
        assert download_drive(_LocalDrive(f"{served.url}/uc", "a.zip"), tmp_path / "a.zip").read_bytes() == content
    assert served.asked == ["", f"bytes={2**20}-"]


def test_google_drives_quota_page(tmp_path: Path) -> None:
    with serving(Served({"/uc": QUOTA_PAGE})) as served, pytest.raises(UserError, match=r"quota.* By hand: ask\.$"):
        download_drive(_LocalDrive(f"{served.url}/uc", "a.zip"), tmp_path / "a.zip", "By hand: ask.")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Too many users have viewed or downloaded this file recently.", "its quota for this file is used up"),
        ("Cannot retrieve the public link of the file. ... or have had many accesses.", "its quota"),
        ("Server did not honor the requested byte range", "Google Drive does not give it"),
    ],
)
def test_what_gdown_says_is_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    import gdown

    def refuse(*arguments: object, **options: object) -> None:
        raise gdown.exceptions.FileURLRetrievalError(said)

    monkeypatch.setattr(gdown, "download", refuse)
    with pytest.raises(UserError, match=told):
        download_drive(Drive("15QB3VNKj93027UAQWv7pzFQO1JDCdZj2", "tokyo_xs.zip"), tmp_path / "a.zip")
