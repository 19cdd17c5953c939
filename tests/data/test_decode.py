from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vgbench.data.decode import check_image, decode_image, image_size, resize_images
from vgbench.errors import UserError


def bilinear(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [H,W,C] in float64 with a triangle as wide as a pixel of the coarser of the two grids."""

    def weights(old: int, new: int) -> np.ndarray:
        scale = old / new
        centres = (np.arange(new) + 0.5) * scale
        distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(scale, 1)
        triangle = np.clip(1 - distance, 0, None)
        return triangle / triangle.sum(1, keepdims=True)

    rows, columns = weights(pixels.shape[0], height), weights(pixels.shape[1], width)
    return np.einsum("hy,wx,yxc->hwc", rows, columns, pixels.astype(float), optimize=True)


def plain(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".JPG", ".jpeg"])
def test_native_size_gives_the_stored_pixels(tmp_path: Path, write_image: Callable[..., Path], extension: str) -> None:
    path = write_image(tmp_path / f"a{extension}", 24, 32)
    image = decode_image(path, None)
    assert image.dtype == torch.uint8 and image.shape == (3, 24, 32) and image.is_contiguous()
    assert torch.equal(image, plain(path)) and torch.equal(decode_image(str(path), (24, 32)), image)


@pytest.mark.parametrize("size", [(18, 32), (24, 20), (48, 70), (13, 17), (1, 1)])
def test_resizing_is_bilinear_with_a_filter_as_wide_as_the_reduction(
    tmp_path: Path, write_image: Callable[..., Path], size: tuple[int, int]
) -> None:
    path = write_image(tmp_path / "a.png", 24, 32)
    image = decode_image(path, size)
    expected = bilinear(np.array(Image.open(path)), *size)
    assert image.shape == (3, *size) and image.dtype == torch.uint8 and image.is_contiguous()
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() < 1.01


def test_a_batch_is_resized_like_its_images(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    images = torch.stack([decode_image(write_image(tmp_path / f"{i}.png", seed=i), None) for i in range(3)])
    resized = resize_images(images, (17, 29))
    assert all(torch.equal(resized[i], decode_image(tmp_path / f"{i}.png", (17, 29))) for i in range(3))


def test_a_large_jpeg_is_decoded_at_about_the_wanted_size(
    tmp_path: Path, write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "a.jpg", 480, 640, quality=95)
    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr(np, "array", lambda image, original=np.array: sizes.append(image.size) or original(image))
    small = decode_image(path, (100, 130))
    monkeypatch.undo()
    assert sizes == [(160, 120)]
    expected = bilinear(np.array(Image.open(path)), 100, 130)
    assert small.shape == (3, 100, 130)
    assert np.abs(small.permute(1, 2, 0).numpy() - expected).mean() < 2


def test_gray_alpha_palette_and_cmyk_become_rgb(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    colour = Image.open(write_image(tmp_path / "a.png"))
    gray = colour.convert("L")
    gray.save(tmp_path / "gray.jpg", quality=100)
    gray.save(tmp_path / "gray.png")
    alpha = colour.copy()
    alpha.putalpha(Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)))
    alpha.save(tmp_path / "alpha.png")
    colour.quantize(16).save(tmp_path / "palette.png", transparency=0)
    colour.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    colour.convert("1").save(tmp_path / "bits.png")
    gray.convert("LA").save(tmp_path / "la.png")
    assert torch.equal(decode_image(tmp_path / "alpha.png", None), plain(tmp_path / "a.png"))
    assert torch.equal(decode_image(tmp_path / "gray.png", None), torch.from_numpy(np.array(gray)).expand(3, -1, -1))
    assert torch.equal(decode_image(tmp_path / "la.png", None), decode_image(tmp_path / "gray.png", None))
    assert torch.equal(decode_image(tmp_path / "palette.png", None), plain(tmp_path / "palette.png"))
    assert decode_image(tmp_path / "bits.png", None).unique().tolist() == [0, 255]
    for name, reference, size in (
        ("cmyk.jpg", "a.png", None),
        ("gray.jpg", "gray.png", None),
        ("cmyk.jpg", "a.png", (12, 16)),
    ):
        difference = decode_image(tmp_path / name, size).float() - decode_image(tmp_path / reference, size).float()
        assert difference.abs().mean() < 8, name


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = decode_image(tmp_path / "deep.png", None)
    assert np.abs(image[0].numpy() - values / 257.0).max() <= 0.5 and torch.equal(image[0], image[2])


def test_orientation_counts_when_asked_for_whatever_the_name(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("@0500000.00@4000000.00@@.jpg", "IMG_1@2x.jpg", "photo.jpg"):
        assert decode_image(write_image(tmp_path / name, 24, 32, exif=exif), None).shape == (3, 24, 32)
        assert image_size(tmp_path / name) == (24, 32)
        assert decode_image(tmp_path / name, None, upright=True).shape == (3, 32, 24)
        assert image_size(tmp_path / name, upright=True) == (32, 24)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_a_photograph_stands_upright_when_asked_for(tmp_path: Path, turn: int, extension: str) -> None:
    """Saved lying in each of EXIF's eight ways, it comes out as it was; at another size too."""
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (3, 2, 3), np.uint8)).resize((64, 96))
    undo = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }[turn]  # fmt: skip
    stored = upright
    for way in undo:
        stored = stored.transpose(way)
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"photo.{extension}"
    stored.save(path, exif=exif, quality=95)
    assert image_size(path, upright=True) == (96, 64)
    whole = decode_image(path, None, upright=True).float()
    assert (whole - torch.from_numpy(np.array(upright)).permute(2, 0, 1).float()).abs().mean() < 3
    small = decode_image(path, (48, 32), upright=True).float()
    assert small.shape == (3, 48, 32)
    assert (small - torch.from_numpy(np.array(upright.resize((32, 48)))).permute(2, 0, 1).float()).abs().mean() < 5


def broken_files(folder: Path, write_image: Callable[..., Path]) -> list[Path]:
    whole = write_image(folder / "whole.jpg", 96, 128).read_bytes()
    png = write_image(folder / "whole.png", 96, 128).read_bytes()
    stream = io.BytesIO()
    Image.open(folder / "whole.png").save(stream, "JPEG", progressive=True)
    contents = {
        "missing.jpg": None,
        "empty.jpg": b"",
        "text.jpg": b"<html>404 not found</html>",
        "cut.jpg": whole[: len(whole) * 2 // 3],
        "head.jpg": whole[:100],
        "progressive.jpg": stream.getvalue()[: len(stream.getvalue()) * 2 // 3],
        "cut.png": png[: len(png) // 2],
        "forged.png": png[:60] + bytes(40) + png[100:],
    }
    for name, content in contents.items():
        if content is not None:
            (folder / name).write_bytes(content)
    (folder / "folder.jpg").mkdir()
    return [folder / name for name in [*contents, "folder.jpg"]]


def test_damaged_files_are_named(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    paths = broken_files(tmp_path, write_image)
    assert len(paths) == 9
    for path in paths:
        for size in (None, (10, 12)):
            with pytest.raises(UserError) as raised:
                decode_image(path, size)
            assert str(path) in str(raised.value) and "\n" not in str(raised.value)
        assert check_image(path), path


def test_whole_files_check_as_whole(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    for name in ("a.jpg", "b.png", "c.JPEG"):
        assert check_image(write_image(tmp_path / name)) == ""


def test_real_photographs_match_the_plain_way(real_photographs: Path) -> None:
    paths = sorted((real_photographs / "gardens_point/images/test/database").iterdir())[:5]
    assert len(paths) == 5
    for path in paths:
        assert torch.equal(decode_image(path, None), plain(path))
        expected = bilinear(np.array(Image.open(path)), 240, 320)
        assert np.abs(decode_image(path, (240, 320)).permute(1, 2, 0).numpy() - expected).max() < 1.01
