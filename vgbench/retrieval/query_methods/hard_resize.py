"""hard_resize: queries take the database's size, whatever their own aspect ratio."""

from __future__ import annotations

from vgbench.retrieval.predictions import Predictions


class HardResize:
    """One image a query, resized to exactly --resize (Berton et al., Deep Visual Geo-localization Benchmark, 2022)."""

    def decode_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def merge(self, predictions: Predictions) -> Predictions:
        return predictions
