"""single_query: the whole query in its own aspect ratio."""

from __future__ import annotations

from vgbench.retrieval.query_methods.base import QueryMethod, Size, shorter_side


class SingleQuery(QueryMethod):
    """The shorter side becomes the smaller number of --resize, the ratio is kept (Berton et al., 2022)."""

    keeps_ratio = True

    def frame(self, image: Size, size: Size) -> Size:
        return shorter_side(image, min(size))
