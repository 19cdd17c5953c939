"""The rsync program: a stand-in that copies, the real one against a server on the loopback address, none at all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets_vg.fetch import rsync
from datasets_vg.fetch.rsync import transfer
from datasets_vg.sources import Rsync
from vgbench.errors import UserError


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called rsync that writes down how it was called and does what `script` says."""
    program = tmp_path / "bin" / "rsync"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(rsync, "WAIT", 0.0)
    return program


def write(program: Path, script: str) -> None:
    program.write_text(f'#!/bin/sh\necho "$@" >> {program.parent}/calls\n{script}\n')
    program.chmod(0o755)


def test_a_folder_is_asked_for_with_the_options_of_the_server(tmp_path: Path, fake: Path) -> None:
    write(fake, "exit 0")
    assert transfer(Rsync("rsync://host/sf_xl/small", "sf_xs"), tmp_path / "raw") == tmp_path / "raw" / "sf_xs"
    [call] = (fake.parent / "calls").read_text().splitlines()
    assert call.startswith("-rhz --info=progress2 --ignore-existing")
    assert call.endswith(f"rsync://host/sf_xl/small/ {tmp_path}/raw/sf_xs/")


def test_a_cut_transfer_is_gone_on_with(tmp_path: Path, fake: Path) -> None:
    write(fake, f"[ $(wc -l < {fake.parent}/calls) -gt 2 ] || exit 30")
    transfer(Rsync("rsync://host/a", "a"), tmp_path)
    assert len((fake.parent / "calls").read_text().splitlines()) == 3


def test_what_the_server_does_not_have_is_told(tmp_path: Path, fake: Path) -> None:
    write(fake, "echo 'rsync: link_stat failed' >&2; exit 23")
    with pytest.raises(UserError, match=r"status 23 \(rsync: link_stat failed\).* By hand\.$"):
        transfer(Rsync("rsync://host/a", "a"), tmp_path, "By hand.")


def test_without_the_program_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"speaks rsync only, and the rsync program is not installed.*apt install"):
        transfer(Rsync("rsync://host/a", "a"), tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real rsync server on the loopback address, with the folder tmp_path/served."""
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "served").mkdir()
    config = tmp_path / "rsyncd.conf"
    config.write_text(f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n[sf_xl]\npath = {tmp_path}/served\n")
    process = subprocess.Popen(
        ["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}", f"--config={config}"]
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.skip("no rsync server can be started here")
        yield f"rsync://127.0.0.1:{port}/sf_xl"
    finally:
        process.terminate()
        process.wait()


def test_the_real_program_brings_folders_and_files_and_skips_what_is_there(tmp_path: Path, server: str) -> None:
    (tmp_path / "served" / "small" / "test").mkdir(parents=True)
    (tmp_path / "served" / "small" / "test" / "@1@2@.jpg").write_bytes(b"image")
    (tmp_path / "served" / "list.txt").write_text("a list")
    assert transfer(Rsync(f"{server}/list.txt", "test/list.txt"), tmp_path / "raw").read_text() == "a list"
    for _ in range(2):
        folder = transfer(Rsync(f"{server}/small", "sf_xs"), tmp_path / "raw")
        assert (folder / "test" / "@1@2@.jpg").read_bytes() == b"image"
    with pytest.raises(UserError, match="status 23"):
        transfer(Rsync(f"{server}/nothing", "nothing"), tmp_path / "raw")
