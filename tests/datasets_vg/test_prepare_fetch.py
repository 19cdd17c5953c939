"""Sets that are fetched without a person: from a server that the test starts, and by a stand-in for rsync."""

from __future__ import annotations

import dataclasses
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import raw_trees
from archive_server import QUOTA_PAGE, Served, serving

from datasets_vg import catalog
from datasets_vg.__main__ import main
from datasets_vg.fetch import http
from datasets_vg.sources import Archive, Http, Rsync
from vgbench.data import read_split


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WAIT", 0.0)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def packed(raw: Path) -> bytes:
    """Return a zip of everything below a folder."""
    archive = raw.parent / "packed.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(raw.rglob("*")):
            out.write(path, path.relative_to(raw))
    return archive.read_bytes()


def from_here(monkeypatch: pytest.MonkeyPatch, name: str, part: str, *archives: Archive) -> None:
    """Let a part of a set come from other addresses."""
    entry = catalog.KNOWN[name]
    parts = {**entry.parts, part: dataclasses.replace(entry.parts[part], archives=archives, gigabytes=0)}
    monkeypatch.setitem(catalog.KNOWN, name, dataclasses.replace(entry, parts=parts))


def prepare(tmp_path: Path, *arguments: str) -> int:
    return main(["prepare", *arguments, "--datasets_folder", str(tmp_path / "sets")])


def test_a_set_is_fetched_and_nothing_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed(raw_trees.sped(tmp_path / "raw"))
    with serving(Served({"/SPEDTEST.zip": content}, cut_after=[len(content) // 2])) as served:
        from_here(monkeypatch, "sped", "test", Http(f"{served.url}/SPEDTEST.zip"))
        assert prepare(tmp_path, "sped") == 0
        assert prepare(tmp_path, "sped") == 0
        assert len(served.asked) == 2  # the second goes on where the first was cut; a finished set asks for nothing
    split = read_split(tmp_path / "sets" / "sped", "test")
    assert (len(split.database), len(split.queries)) == (2, 2)
    assert not any(path.is_symlink() for path in (tmp_path / "sets").rglob("*"))
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["sped"]


def test_archives_stay_where_they_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Served({"/a.zip": packed(raw_trees.sped(tmp_path / "raw"))})) as served:
        from_here(monkeypatch, "sped", "test", Http(f"{served.url}/a.zip"))
        assert prepare(tmp_path, "sped", "--keep_downloads") == 0
    assert [path.name for path in (tmp_path / "sets" / "sped.partial").rglob("*.zip")] == ["a.zip"]
    assert not list((tmp_path / "sets" / "sped.partial").rglob("*.jpg"))


def test_a_quota_page_ends_it_in_one_line_with_what_to_do_by_hand(tmp_path: Path, monkeypatch, capsys) -> None:
    with serving(Served({"/sped.zip": QUOTA_PAGE})) as served:
        from_here(monkeypatch, "sped", "test", Http(f"{served.url}/sped.zip"))
        assert prepare(tmp_path, "sped") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "quota" in error and error.endswith("python3 -m datasets_vg prepare sped --raw FOLDER")
    assert not (tmp_path / "sets" / "sped").exists()


def test_archives_of_a_series_that_are_published_empty_are_passed_over(tmp_path: Path, monkeypatch) -> None:
    raw = raw_trees.san_francisco(tmp_path / "raw")
    files = {"/empty.tar": b""}
    for number, folder in enumerate(sorted(raw.iterdir())):
        with tarfile.open(tmp_path / "one.tar", "w") as tar:
            tar.add(folder, folder.name)
        files[f"/{number}.tar"] = (tmp_path / "one.tar").read_bytes()
    with serving(Served(files)) as served:
        archives = [Http(f"{served.url}{path}", may_be_empty=path == "/empty.tar") for path in files]
        from_here(monkeypatch, "san_francisco", "test", *archives)
        assert prepare(tmp_path, "san_francisco") == 0
    split = read_split(tmp_path / "sets" / "san_francisco", "test")
    assert (len(split.database), len(split.queries)) == (2, 1)


def test_queries_are_fetched_beside_a_database_that_the_user_has(tmp_path: Path, monkeypatch) -> None:
    raw = raw_trees.tokyo247(tmp_path / "raw")
    queries = tmp_path / "queries"
    (raw / "247query_subset_v2").rename(queries)
    (tmp_path / "to_pack").mkdir()
    queries.rename(tmp_path / "to_pack" / "247query_subset_v2")
    with serving(Served({"/queries.zip": packed(tmp_path / "to_pack")})) as served:
        from_here(monkeypatch, "tokyo247", "queries", Http(f"{served.url}/queries.zip"))
        assert prepare(tmp_path, "tokyo247", "--raw", str(raw)) == 0
    split = read_split(tmp_path / "sets" / "tokyo247", "test")
    assert (len(split.database), len(split.queries)) == (3, 1)


@pytest.fixture
def rsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called rsync that copies from the folder tmp_path/server in place of a server."""
    program = tmp_path / "bin" / "rsync"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nfor last; do from=$to; to=$last; done\necho "$from" >> "$0.calls"\n'
        f'from="{tmp_path}/server/${{from#rsync://host/}}"\n'
        'case "$from" in */) mkdir -p "$to" && cp -r "$from." "$to" ;; *) cp "$from" "$to" ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def test_a_set_of_the_rsync_server_in_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rsync: Path) -> None:
    raw_trees.in_protocol(tmp_path / "server", "sf_xl")
    [image] = (tmp_path / "server" / "test" / "database").rglob("*.jpg")
    (tmp_path / "server" / "test" / "list.txt").write_text(f"37.7/{image.name}\n")
    from_here(
        monkeypatch, "sf_xl", "test", Rsync("rsync://host/test/database", "test/database"),
        Rsync("rsync://host/test/queries_v1", "test/queries_v1"),
        Rsync("rsync://host/test/list.txt", "test/database_images_paths.txt"),
    )  # fmt: skip
    raw_trees.picture(tmp_path / "server" / "val" / "queries" / "@1@2@.jpg")
    raw_trees.picture(tmp_path / "server" / "val" / "database" / "@1@2@.jpg")
    from_here(monkeypatch, "sf_xl", "val", Rsync("rsync://host/val", "val"))
    assert prepare(tmp_path, "sf_xl") == 0
    root = tmp_path / "sets" / "sf_xl"
    assert len(read_split(root, "test", "queries_v1").database) == 1
    assert (root / "images" / "test" / "database_images_paths.txt").is_file()
    assert not (root / "images" / "val").exists()  # never more than is asked for
    assert prepare(tmp_path, "sf_xl", "--part", "val") == 0
    assert len(read_split(root, "val").queries) == 1
    assert len(rsync.with_name("rsync.calls").read_text().splitlines()) == 4


def test_what_was_transferred_is_not_asked_for_again_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rsync: Path
) -> None:
    from datasets_vg.prepare import writing

    raw_trees.in_protocol(tmp_path / "server" / "st_lucia", "sf_xl")
    from_here(monkeypatch, "st_lucia", "test", Rsync("rsync://host/st_lucia", "st_lucia"))
    place, placed = writing.Writer._place, []

    def interrupted(self, picture, target, written):
        if placed:
            raise KeyboardInterrupt
        placed.append(picture)
        place(self, picture, target, written)

    with monkeypatch.context() as patch:
        patch.setattr(writing.Writer, "_place", interrupted)
        assert prepare(tmp_path, "st_lucia") == 130
    assert prepare(tmp_path, "st_lucia") == 0
    assert len(rsync.with_name("rsync.calls").read_text().splitlines()) == 1
    assert len(list((tmp_path / "sets" / "st_lucia").rglob("*.jpg"))) == 5
