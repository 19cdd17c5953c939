"""flip: every image and its mirror image, as one averaged descriptor."""

from __future__ import annotations

from torch import Tensor

from vgbench.retrieval.query_methods.base import QueryMethod, Size


class Flip(QueryMethod):
    """hard_resize, with the descriptors of an image and of its horizontal mirror image averaged.

    Of queries and database alike: averaging one side only would compare what was averaged with what was not.
    """

    of_database = True

    def views(self, images: Tensor, size: Size) -> list[Tensor]:
        return [images, images.flip(3)]
