"""Image files opened within a bound: what decoding makes of a small file never fills the memory."""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile, JpegImagePlugin

MOST_PIXELS = 180_000_000  # that are made at once; Pillow's own limit, too
_MOST_STORED = 1 << 30  # pixels of a JPEG file, of which an eighth of each side may be all that is made
_LARGE = 16_000_000  # pixels from which an image is reduced band by band before anything else holds it again
_BAND = 4_000_000  # pixels of such a band

# EXIF's field of orientation, and its values from which on height and width change places.
_ORIENTATION, _LYING = 0x0112, 5


@contextmanager
def open_image(
    path: Path | str, size: tuple[int, int] | None = None, *, upright: bool = False
) -> Iterator[ImageFile.ImageFile]:
    """Open an image to decode it, a JPEG at about the wanted size.

    Args:
        path: an image file.
        size: the wanted height and width in pixels: a JPEG is decoded by 1/2, 1/4 or 1/8, never below them. None: the
            image's own.
        upright: the size is that of the image turned as its EXIF says.

    Yields:
        The image, not decoded yet.

    Raises:
        OSError: there is no such file, or it is no image.
        Image.DecompressionBombError: decoding would make more than `MOST_PIXELS`.
    """
    with open_header(path) as image:
        stored = image.width * image.height
        if size is not None:
            turned = upright and lies(image)
            image.draft("RGB", size if turned else (size[1], size[0]))
        _refuse_bombs(image, stored)
        yield image


@contextmanager
def open_header(path: Path | str) -> Iterator[ImageFile.ImageFile]:
    """Open an image for its size and EXIF alone: a JPEG may have any size; raises as `open_image`."""
    mode = os.stat(path).st_mode  # noqa: PTH116 (a str is looked at as it is)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode):
        raise OSError("no file, but something that may be waited for without end")
    try:
        with quiet(Image.DecompressionBombWarning):  # `_refuse_bombs` is asked instead
            opened = Image.open(path)
    except Image.DecompressionBombError as error:
        # Judged by the header's size. Pillow's limit stays for all other readers of this process, so the one format
        # that can be decoded smaller is opened past it here.
        try:
            opened = JpegImagePlugin.JpegImageFile(path)
        except SyntaxError:
            raise error from None
    with opened as image:
        yield image


@contextmanager
def quiet(category: type[Warning] = Warning) -> Iterator[None]:
    """Let nothing of the body warn; only where the body runs in the main thread.

    What is not warned of belongs to the process: threads that set it in turn could leave it set for good. Who starts
    threads that read images does so within this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield


def _refuse_bombs(image: ImageFile.ImageFile, stored: int) -> None:
    """Refuse an image that, as it is drafted, would fill the memory; `stored` is how many pixels the file has."""
    made = image.width * image.height
    if image.info.get("progressive"):  # the decoder holds all coefficients, whatever the size it makes of them
        made = max(made, stored // 2)
    if made > MOST_PIXELS or stored > _MOST_STORED:
        raise Image.DecompressionBombError(f"{stored / 1e6:.0f} million pixels, {MOST_PIXELS / 1e6:.0f} at most")


def bounded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a large image reduced to about twice the wanted size at least, by averaging whole blocks of pixels.

    Band after band, so that beside the decoder's own pixels there is never a second copy of all. Others, and what is
    less than four times as large as wanted, are returned as they are.

    Args:
        image: opened by `open_image`, not decoded yet.
        size: the wanted width and height, pixels, as the image is stored.
    """
    block = min(image.width // (2 * size[0]), image.height // (2 * size[1]))
    if image.width * image.height < _LARGE or block < 2 or image.mode.startswith("I"):
        return image
    small = Image.new("RGB", (-(-image.width // block), -(-image.height // block)))
    rows = max(_BAND // image.width // block, 1)
    for top in range(0, small.height, rows):
        box = (0, top * block, image.width, min((top + rows) * block, image.height))
        small.paste(image.crop(box).convert("RGB").reduce(block), (0, top))
    return small


def orientation(image: Image.Image) -> int:
    """Return how an opened image has to be turned to stand upright, as EXIF counts (1: not at all)."""
    value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def lies(image: Image.Image) -> bool:
    """Whether height and width of an opened image change places when it is turned upright."""
    return orientation(image) >= _LYING
