"""hard_resize: queries take the database's size, whatever their own aspect ratio."""

from __future__ import annotations

from vgbench.retrieval.query_methods.base import QueryMethod


class HardResize(QueryMethod):
    """One image per query, resized to exactly --resize (Berton et al., Deep Visual Geo-localization, 2022)."""
