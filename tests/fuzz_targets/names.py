"""Names of images, folders of files and lists of them."""

from __future__ import annotations

import os
from pathlib import Path

from fuzzing import NUMBERS, WORDS, file_of, target
from hypothesis import strategies as st

_FIELDS = st.lists(st.one_of(st.sampled_from(("500000", "5000000.5", "31", "T", "45", "9")), NUMBERS), max_size=16)
_NAMES = st.one_of(_FIELDS.map(lambda fields: "@" + "@".join(fields) + "@.jpg"), WORDS, WORDS.map(lambda w: w + ".jpg"))
_BYTES = st.one_of(_NAMES.map(lambda n: n.encode("utf-8", "surrogatepass")), st.binary(max_size=30))


@target(_NAMES)
def names(value: str, folder: Path) -> None:
    from vgbench.data.protocol import format_name, parse_name

    format_name(parse_name(value))


@target(st.lists(_BYTES, min_size=1, max_size=4), share=0.5)
def files(value: list[bytes], folder: Path) -> None:
    """Files of any name, also names that are no UTF-8, and pipes and folders named like images."""
    from vgbench.data.protocol import examine_folder, read_folder
    from vgbench.data.verify import check_images

    for number, name in enumerate(value):
        path = os.path.join(os.fsencode(folder), name.replace(b"/", b"_").replace(b"\0", b"_")[:255] or b"_")  # noqa: PTH118
        if os.path.lexists(path):
            continue
        if number == 1:
            os.mkfifo(path)
        elif number == 2:
            os.mkdir(path)  # noqa: PTH102
        else:
            Path(os.fsdecode(path)).write_bytes(b"x")
    examine_folder(folder)
    check_images(read_folder(folder), "skip", 0)


@target(
    st.lists(
        st.one_of(
            _BYTES,
            st.sampled_from(
                (
                    b"../../etc/passwd.jpg",
                    b"database/@1@2@.jpg",
                    b"@1@2@.jpg",
                    b"./@1@2@.jpg",
                    b"x\0.jpg",
                    b"a" * 300 + b".jpg",
                    b"../database/@1@2@.jpg",
                    b"/" * 300,
                    b"a/../@1@2@.jpg",
                    b"/" + b"b" * 5000 + b".jpg",
                )
            ),
        ),
        max_size=5,
    )
)
def lists(value: list[bytes], folder: Path) -> None:
    from vgbench.data.protocol import read_folder

    file_of(folder, "database/@1@2@.jpg", b"x")
    file_of(folder, "database_images_paths.txt", b"\n".join(value))
    table = read_folder(folder / "database")
    for row in range(len(table)):
        path = os.path.normpath(table.path(row))
        assert path.startswith(f"{folder}/database/"), f"{path} is outside of the folder"
