"""Archives of strangers: what leaves the folder, links, devices, bombs and damage are refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from datasets_vg.fetch import unpack as module
from datasets_vg.fetch.unpack import is_archive, unpack
from vgbench.errors import UserError


def tar_of(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def zip_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refused(archive: Path, told: str) -> None:
    folder = archive.parent / "out"
    with pytest.raises(UserError, match=told) as raised:
        unpack(archive, folder)
    assert str(archive) in str(raised.value)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in archive.parent.iterdir()} <= {archive.name, "out"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar(tmp_path: Path, mode: str) -> None:
    archive = tar_of(tmp_path / "a.tar", ("b/c.jpg", b"image"), ("d.txt", b"text"), mode=mode)
    assert (unpack(archive, tmp_path / "out") / "b" / "c.jpg").read_bytes() == b"image"
    archive.unlink()
    unpack(archive, tmp_path / "out")  # which is complete, and asks for nothing


def test_a_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("b/c.jpg", b"image"))
    assert (unpack(archive, tmp_path / "out") / "b" / "c.jpg").read_bytes() == b"image"


@pytest.mark.parametrize(
    "name", ["../up.jpg", "a/../../up.jpg", "/tmp/up.jpg", "..\\up.jpg", "C:\\up.jpg", "C:/up.jpg"]
)
def test_a_member_that_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "z").mkdir()
    refused(tar_of(tmp_path / "t" / "a.tar", ("fine.jpg", b"1"), (name, b"1")), "land outside the folder")
    archive = zip_of(tmp_path / "z" / "a.zip", ("fine.jpg", b"1"), (name.replace("\\", "/"), b"1"))
    refused(archive, "land outside the folder")


@pytest.mark.parametrize("name", ["", ".", "./.", ".unpacked/a.tar", "./.unpacked/b.zip"])
def test_a_member_without_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    """Such a file would take the place of the folder, or of the mark that says that an archive is unpacked."""
    info = tarfile.TarInfo(name)
    refused(tar_of(tmp_path / "a.tar", ("fine.jpg", b"1"), info), "no name of a file")


@pytest.mark.parametrize(
    "member",
    [
        link("passwords", "/etc/passwd"),
        link("up", "../up.jpg"),
        link("hard", "/etc/passwd", tarfile.LNKTYPE),
        link("folder", "."),
        link("circle", "circle"),
    ],
)
def test_a_link_out_of_it(tmp_path: Path, member: tarfile.TarInfo) -> None:
    refused(tar_of(tmp_path / "a.tar", ("fine.jpg", b"1"), member), "a link")


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("passwords")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", "a link")


def test_a_link_to_another_member_is_that_file(tmp_path: Path) -> None:
    archive = tar_of(
        tmp_path / "a.tar", link("a/first.jpg", "../b/image.jpg"), ("b/image.jpg", b"image"),
        link("hard.jpg", "b/image.jpg", tarfile.LNKTYPE),
    )  # fmt: skip
    out = unpack(archive, tmp_path / "out")
    for name in ("a/first.jpg", "hard.jpg"):
        assert (out / name).read_bytes() == b"image" and not (out / name).is_symlink()


def test_a_device(tmp_path: Path) -> None:
    info = tarfile.TarInfo("null")
    info.type = tarfile.CHRTYPE
    refused(tar_of(tmp_path / "a.tar", info), "a device")


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALWAYS_FINE", 2**20)
    refused(zip_of(tmp_path / "a.zip", ("zeros.jpg", bytes(2**22))), "would unpack to 4.2 MB")
    (tmp_path / "t").mkdir()
    refused(tar_of(tmp_path / "t" / "a.tar.gz", ("zeros.jpg", bytes(2**22)), mode="w:gz"), "would unpack to 4.2 MB")


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("zeros.jpg", bytes(100_000)))
    content = bytearray(archive.read_bytes())
    for start in (content.find(b"PK\x01\x02") + 24, content.find(b"PK\x03\x04") + 22):
        content[start : start + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) <= 10


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_damaged_archive(tmp_path: Path, name: str) -> None:
    if name.endswith("zip"):
        archive = zip_of(tmp_path / name, ("b.jpg", bytes(range(256)) * 50))
    else:
        archive = tar_of(tmp_path / name, ("b.jpg", bytes(range(256)) * 50), mode="w:gz" if "gz" in name else "w")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(UserError, match=r"is damaged or no archive.*rm"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "b.jpg").exists()


def test_an_interrupted_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar_of(tmp_path / "a.tar", *((f"{i}.jpg", bytes([i])) for i in range(5)))
    write, written = module._write, []

    def interrupted(member, folder, packed):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(member.name)
        write(member, folder, packed)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_write", interrupted)
        unpack(archive, tmp_path / "out")
    before = (tmp_path / "out" / "0.jpg").stat().st_mtime_ns
    out = unpack(archive, tmp_path / "out")
    assert [(out / f"{i}.jpg").read_bytes() for i in range(5)] == [bytes([i]) for i in range(5)]
    assert (out / "0.jpg").stat().st_mtime_ns == before


def test_what_is_an_archive(tmp_path: Path) -> None:
    assert is_archive(tmp_path / "a.TAR.gz") and is_archive(tmp_path / "a.zip") and not is_archive(tmp_path / "a.jpg")
