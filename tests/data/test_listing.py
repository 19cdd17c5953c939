"""Which files of a folder are images, and what is said of the others."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgbench.data.decode import decode_image
from vgbench.data.listing import image_names
from vgbench.data.protocol import read_folder
from vgbench.data.unlabelled import read_unlabelled
from vgbench.errors import UserError


@pytest.mark.parametrize("extension", ["webp", "bmp", "tif", "tiff", "TIF", "png", "jpeg"])
def test_further_formats_are_read(tmp_path: Path, extension: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 3, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((30, 20))
    path = tmp_path / "database" / f"@0500000.00@4000000.00@.{extension}"
    path.parent.mkdir()
    picture.save(path, **({"lossless": True} if extension == "webp" else {}))
    table = read_folder(tmp_path / "database")
    assert [*table.relative_paths()] == [path.name] and decode_image(table.path(0), None).shape == (3, 20, 30)


def test_what_is_left_out_is_counted_by_extension(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("@1@2@.jpg", "a.HEIC", "b/c.heic", "notes.txt", "README", ".hidden.gif", "b/.x/y.gif"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    left_out = Counter[str]()
    assert [*image_names(tmp_path / "photos", left_out)] == [b"@1@2@.jpg"]
    assert left_out == {".heic": 2, ".txt": 1, "(no extension)": 1}
    with caplog.at_level(logging.INFO):
        read_folder(tmp_path / "photos")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "left out: 2 .heic, 1 (no extension), 1 .txt (read are .jpg" in record.getMessage()
    (tmp_path / "photos/@1@2@.jpg").unlink()
    with pytest.raises(UserError, match=r"no images in it.*left out: 2 \.heic"):
        read_unlabelled(tmp_path / "photos", "--queries_folder")


def test_photographs_are_turned_and_images_of_the_protocol_are_not(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("IMG_1@2x.jpg", "@0500000.00@4000000.00@.jpg"):
        Image.new("RGB", (32, 24)).save(folder / name, exif=exif)
    table = read_unlabelled(folder, "--queries_folder")
    assert table.upright and not read_folder(_only(folder, tmp_path / "database")).upright


def _only(folder: Path, target: Path) -> Path:
    target.mkdir()
    (target / "@0500000.00@4000000.00@.jpg").symlink_to(folder / "@0500000.00@4000000.00@.jpg")
    return target
