"""five_crops: the corners and the centre of the query, as one averaged descriptor."""

from __future__ import annotations

from torch import Tensor

from vgbench.retrieval.query_methods.base import QueryMethod, Size, centred, shorter_side, window


class FiveCrops(QueryMethod):
    """Squares as large as the smaller number of --resize, at the corners and in the middle (Berton et al., 2022).

    The query's shorter side is brought to that number first, its ratio kept.
    """

    keeps_ratio = True

    def frame(self, image: Size, size: Size) -> Size:
        return shorter_side(image, min(size))

    def views(self, images: Tensor, size: Size) -> list[Tensor]:
        height, width = images.shape[2:]
        side = min(height, width, min(size))
        square = (side, side)
        corners = [(top, left) for top in (0, height - side) for left in (0, width - side)]
        return [*(window(images, top, left, square) for top, left in corners), centred(images, square)]
