"""Images and archives."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from fuzzing import WORDS, broken, file_of, target
from hypothesis import strategies as st

from vgbench.errors import UserError


def _image(kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    image = Image.radial_gradient("L").resize((24, 16)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2020:01:01 10:00:00"
    exif[0x8825] = {
        1: "N",
        2: (45.0, 1.0, 2.0),
        3: "E",
        4: (7.0, 1.0, 2.0),
        17: 12.0,
        29: "2020:01:01",
        7: (1.0, 2.0, 3.0),
    }
    image.save(stream, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    return stream.getvalue()


@target(
    st.sampled_from(("JPEG", "PNG", "WEBP", "BMP", "TIFF")).flatmap(
        lambda kind: st.tuples(st.just(kind), broken(_image(kind)))
    )
)
def images(value: tuple[str, bytes], folder: Path) -> None:
    from vgbench.data.decode import check_image, decode_image, image_size
    from vgbench.data.exif import read_taken

    path = file_of(folder, f"x.{value[0].lower()}", value[1])
    read_taken(path)
    check_image(path)
    with contextlib.suppress(UserError):
        image_size(path, upright=True)
    assert decode_image(path, (8, 8), upright=True).shape == (3, 8, 8)


_MEMBERS = st.lists(
    st.one_of(
        WORDS,
        st.sampled_from(
            (
                "../x.jpg",
                "/x.jpg",
                "a/x.jpg",
                "a",
                "a/../../x",
                "C:\\x",
                "..\\x",
                "a//b",
                ".",
                "",
                "x" * 300,
                "a/" * 200 + "x",
                ".unpacked/x",
            )
        ),
    ),
    min_size=1,
    max_size=4,
)


def _zip(members: list[str]) -> bytes:
    import warnings
    import zipfile

    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        warnings.simplefilter("ignore")
        for name in members:
            packed.writestr(zipfile.ZipInfo(name or "x"), b"content " * 20)
    return stream.getvalue()


def _tar(members: list[str], kind: str = "w:gz") -> bytes:
    import gzip
    import tarfile

    stream = io.BytesIO()
    # A gzip file says when it was made: without the time, the same names make the same bytes.
    packing = gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) if kind == "w:gz" else contextlib.nullcontext(stream)
    with packing as whole, tarfile.open(fileobj=whole, mode="w" if kind == "w:gz" else kind) as packed:  # type: ignore[call-overload]
        for number, name in enumerate(members):
            info = tarfile.TarInfo(name.replace("\0", "0"))
            info.size, info.mtime = 160, 0
            if number % 3 == 2:
                info.type, info.linkname, info.size = (tarfile.SYMTYPE, tarfile.LNKTYPE)[number % 2], members[0], 0
            packed.addfile(info, io.BytesIO(b"content " * 20))
    return stream.getvalue()


_ARCHIVES = st.one_of(
    _MEMBERS.map(lambda m: ("a.zip", _zip([n.encode("utf-8", "replace").decode() for n in m]))),
    _MEMBERS.map(lambda m: ("a.tar.gz", _tar(m))),
    broken(_zip(["a/x.jpg", "b"])).map(lambda b: ("a.zip", b)),
    broken(_tar(["a/x.jpg", "b", "c"], "w")).map(lambda b: ("a.tar", b)),
    broken(_tar(["a/x.jpg", "b", "c"])).map(lambda b: ("a.tar.gz", b)),
    broken(_tar(["a/x.jpg"], "w:xz")).map(lambda b: ("a.tar.xz", b)),
    broken(_tar(["a"], "w:bz2")).map(lambda b: ("a.tar.bz2", b)),
)


@target(_ARCHIVES)
def archives(value: tuple[str, bytes], folder: Path) -> None:
    from datasets_vg.fetch.unpack import unpack

    archive = file_of(folder, *value)
    try:
        unpack(archive, folder / "to")
    finally:
        assert sorted(p.name for p in folder.iterdir() if p.name != "to") == [archive.name], "written beside the folder"
