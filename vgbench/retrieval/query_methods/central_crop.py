"""central_crop: the middle of the query, as large as --resize."""

from __future__ import annotations

from torch import Tensor

from vgbench.retrieval.query_methods.base import QueryMethod, Size, centred


class CentralCrop(QueryMethod):
    """Resized, ratio kept, until it covers --resize, then cut to it around the centre (Berton et al., 2022).

    By nearest pixels, as their evaluation does: bilinearly, recall differs by 2% on the conformance set.
    """

    keeps_ratio = True
    filtered = False

    def frame(self, image: Size, size: Size) -> Size:
        # In integers: the side that decides comes out exactly, the other one rounded down.
        (height, width), (wanted_height, wanted_width) = image, size
        if wanted_height * width >= wanted_width * height:
            return wanted_height, wanted_height * width // height
        return wanted_width * height // width, wanted_width

    def views(self, images: Tensor, size: Size) -> list[Tensor]:
        return [centred(images, size)]
