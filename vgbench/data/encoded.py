"""Batches of JPEG files that become pixels on the device: by nvJPEG, through torchvision, on a GPU.

Processes read the files and look at their headers. What is no plain JPEG file (another format, CMYK, an orientation
that has to be undone, a file that is cut off) they decode themselves, as always; so does this process with what the
device refuses.

A whole image is decoded. `decode_image` makes 1/2, 1/4 or 1/8 of a file of twice the wanted size or more; here squares
of as many pixels are averaged. On photographs that differs by 0.1 to 0.4 grey levels on average, and by 3 at most in
99% of all values. Both are then resized as `resize_images` does.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vgbench.data.decode import UNREADABLE, decode_image, resize_images
from vgbench.data.image_file import MOST_PIXELS, open_header, orientation, quiet
from vgbench.data.loader import Read, stack_images
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.runtime import Inference

AT_ONCE = 32  # files that are decoded together: whole images, before they are made smaller
_END = b"\xff\xd9"


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """B images on their way to a device, which takes the place of a tensor uint8 [B,3,H,W] until `to`.

    Attributes:
        files: for each the bytes of its file, uint8 [n], or its pixels, uint8 [3,H,W].
        paths: of the files.
        size: height and width in pixels; None: the images' own, which must then be the same.
        upright: as of `decode_image`.
    """

    files: tuple[Tensor, ...]
    paths: tuple[Path, ...]
    size: tuple[int, int] | None
    upright: bool

    def __len__(self) -> int:
        return len(self.files)

    def pin_memory(self) -> EncodedImages:
        """Return the same in pinned memory (DataLoader calls this)."""
        return EncodedImages(tuple(file.pin_memory() for file in self.files), self.paths, self.size, self.upright)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Tensor:
        """Return the images, uint8 [B,3,H,W] on a device.

        Raises:
            UserError: an image cannot be read, or sizes differ.
        """
        encoded = [place for place, file in enumerate(self.files) if file.dim() == 1]
        images = {
            place: file.to(device, non_blocking=non_blocking)
            for place, file in enumerate(self.files)
            if file.dim() == 3
        }
        for start in range(0, len(encoded), AT_ONCE):
            part = encoded[start : start + AT_ONCE]
            images.update(zip(part, self._sized(self._decoded(part, torch.device(device))), strict=True))
        return stack_images([images[place] for place in range(len(self))])

    def _decoded(self, places: Sequence[int], device: torch.device) -> list[Tensor]:
        """Return some images, uint8 [3,h,w] on the device, of their own sizes; those that it refuses of ours."""
        try:
            return _by_torchvision([self.files[place] for place in places], device)
        except RuntimeError:
            if len(places) > 1:
                return [self._decoded([place], device)[0] for place in places]
            return [decode_image(self.paths[places[0]], self.size, upright=self.upright).to(device)]

    def _sized(self, images: list[Tensor]) -> list[Tensor]:
        """Resize images, those of one size together."""
        if self.size is None:
            return images
        small = [_averaged(image, self.size) for image in images]
        groups: dict[torch.Size, list[int]] = {}
        for place, image in enumerate(small):
            groups.setdefault(image.shape, []).append(place)
        found: dict[int, Tensor] = {}
        for shape, places in groups.items():
            same = torch.stack([small[place] for place in places])
            found.update(zip(places, same if shape[1:] == self.size else resize_images(same, self.size), strict=True))
        return [found[place] for place in range(len(images))]


def _averaged(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image uint8 [3,h,w] by 1/2, 1/4 or 1/8, as Pillow's draft mode chooses it, never below a size."""
    by = min(image.shape[1] // size[0], image.shape[2] // size[1], 8)
    factor = 1 << max(0, by.bit_length() - 1)
    if factor == 1:
        return image
    # The last squares of a side may have fewer pixels, as in libjpeg.
    small = F.avg_pool2d(image[None].float(), factor, ceil_mode=True, count_include_pad=False)[0]
    return small.round_().to(torch.uint8)


def _by_torchvision(files: list[Tensor], device: torch.device) -> list[Tensor]:
    """Decode JPEG files, uint8 [n] each, to uint8 [3,h,w] on a device; raises RuntimeError where it refuses one."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg  # slow to import
    except ImportError as error:
        raise UserError(
            f"--jpeg_decoder gpu: this torchvision has no decoder ({error}). Expected one of before its decoders moved "
            "elsewhere, such as 0.29; use --jpeg_decoder cpu"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision 0.29 says that they will move
        return cast(list[Tensor], decode_jpeg(files, mode=ImageReadMode.RGB, device=device))


def joined_encoded(batches: Sequence[EncodedImages]) -> Tensor:
    """Join batches of one size into one, by the name of what it becomes on a device."""
    files = tuple(file for batch in batches for file in batch.files)
    paths = tuple(path for batch in batches for path in batch.paths)
    return cast(Tensor, EncodedImages(files, paths, batches[0].size, batches[0].upright))


def reader_of(inference: Inference) -> Read | None:
    """Return what reads rows of a table in the place of decoding them, None where they are decoded as always."""
    if inference.read is not None or not inference.runtime.device_jpeg:
        return inference.read
    return functools.partial(read_encoded, size=inference.size)


def read_encoded(table: ImageTable, rows: NDArray[np.int64], size: tuple[int, int] | None) -> Tensor:
    """Read the files of some rows of a table, int64 [B], for a device to decode.

    Returns:
        `EncodedImages`, by the name of what it becomes there.

    Raises:
        UserError: an image that is no plain JPEG file cannot be read.
    """
    paths = tuple(table.path(int(row)) for row in rows)
    files = tuple(_file(path, size, table.upright) for path in paths)
    return cast(Tensor, EncodedImages(files, paths, size, table.upright))


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """Return what a loader yields as uint8 [B,3,H,W]: decoded on the device, or as it is."""
    given: Any = images
    return given.to(device) if isinstance(given, EncodedImages) else images


def _file(path: Path, size: tuple[int, int] | None, upright: bool) -> Tensor:
    """Return the bytes of a plain JPEG file, uint8 [n]; of any other the pixels, uint8 [3,H,W]."""
    try:
        with quiet(), open_header(path) as image:
            plain = image.format == "JPEG" and image.mode in ("RGB", "L") and image.info.get("adobe_transform") != 0
            plain = plain and image.width * image.height <= MOST_PIXELS
            plain = plain and not (upright and orientation(image) != 1)
    except UNREADABLE:
        plain = False
    if plain:
        content = np.fromfile(path, np.uint8)
        if content[-64:].tobytes().rstrip(b"\0").endswith(_END):
            return torch.from_numpy(content)
    return decode_image(path, size, upright=upright)
