"""One image file -> uint8 tensor of the wanted size."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vgbench.data.image_file import bounded, lies, open_header, open_image, orientation, quiet
from vgbench.errors import UserError

# How images are brought to size: bilinear, with a triangle filter as wide as the reduction (Pillow's way, and
# torchvision's default). Measured on the conformance recalls, where leaving the filter out is 3 queries off.
ANTIALIAS = True

# How EXIF's orientations are undone.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

# What Pillow raises for files that are missing, foreign, cut off or forged.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def decode_image(path: Path | str, size: tuple[int, int] | None, *, upright: bool = False) -> Tensor:
    """Read an image as RGB.

    JPEG files are decoded at about the wanted size (by 1/2, 1/4 or 1/8, never below it) and then resized as
    `resize_images` does.
    Gray, palette, CMYK and 16-bit images become RGB, transparency is dropped.

    Args:
        path: a file of one of `listing.IMAGE_EXTENSIONS`.
        size: height and width in pixels, or None for the image's own.
        upright: turn it as its EXIF orientation says (`ImageTable.upright`), which datasets in the folder protocol do
            not, as the field does: coordinates, headings and published numbers belong to the stored pixels.

    Returns:
        uint8 [3,H,W].

    Raises:
        UserError: the file is missing, not an image, or damaged.
    """
    return fitted(read_pixels(path, size, upright=upright), size)


def read_pixels(path: Path | str, size: tuple[int, int] | None, *, upright: bool = False) -> Tensor:
    """Return what `decode_image` resizes, uint8 [3,h,w]: what several threads can do at once; raises as that does."""
    with _naming(path), open_image(path, size, upright=upright) as image:
        turned = orientation(image) if upright else 1
        small = image if size is None else bounded(image, size if upright and lies(image) else (size[1], size[0]))
        shown = small if turned == 1 else small.transpose(_TURNS[turned])
        return torch.from_numpy(_rgb(shown)).permute(2, 0, 1)


def fitted(pixels: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Return the image uint8 [3,H,W] that `decode_image` makes of what was read."""
    if size is None or pixels.shape[1:] == size:
        return pixels.contiguous()
    return resize_images(pixels[None], size)[0]


def image_size(path: Path | str, *, upright: bool = False) -> tuple[int, int]:
    """Return the height and width in pixels that `decode_image` gives, from the header alone; raises as that does."""
    with _naming(path), open_header(path) as image:
        lying = upright and lies(image)
        return (image.width, image.height) if lying else (image.height, image.width)


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 [B,3,H,W] to (height, width) in pixels, bilinearly with a low-pass filter, to uint8.

    On a GPU values are rounded once, on a CPU after each direction: they differ by one at most.
    """
    if images.is_cuda:
        return resize_in_float(images, size)
    resized = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=ANTIALIAS)
    return resized.contiguous()


def resize_in_float(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Do the same in float32, which every device can."""
    resized = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False, antialias=ANTIALIAS)
    return resized.round_().clamp_(0, 255).to(torch.uint8).contiguous()


def check_image(path: Path | str) -> str:
    """Decode a whole file as cheaply as its format allows and return what is wrong with it, '' if nothing."""
    try:
        with quiet(), open_image(path, (1, 1)) as image:  # 1/8: every compressed byte is read, few pixels are made
            image.load()
    except UNREADABLE as error:
        return _reason(error)
    return ""


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return uint8 [H,W,3], writable."""
    if image.mode.startswith("I"):  # 16-bit gray, which `convert` would clip at 255
        gray = np.array(image)
        scale = 257.0 if gray.max(initial=0) > 255 or image.mode != "I" else 1.0
        return np.repeat(np.clip(np.rint(gray / scale), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    try:
        with quiet():  # about sizes and metadata that nobody here can mend
            yield
    except UNREADABLE as error:
        raise UserError(
            f"{os.fspath(path)}: cannot be read as an image ({_reason(error)}). Expected a whole image file; "
            "fetch it again, or go on without such images: --on_bad_image skip"
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return "not an image" if "cannot identify image file" in text else text or type(error).__name__
