"""Test methods: how a query becomes the images that are described, and how their predictions become one list.

A method is one file here and one line in the table (`--test_method`).
"""

from __future__ import annotations

from typing import Protocol

from vgbench.registry import Registry
from vgbench.retrieval.predictions import Predictions

QUERY_METHODS = Registry("test method", {"hard_resize": "vgbench.retrieval.query_methods.hard_resize:HardResize"})


class QueryMethod(Protocol):
    """What evaluation asks of a method."""

    def decode_size(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """Return the height and width that queries are decoded to, given --resize; None for their own."""

    def merge(self, predictions: Predictions) -> Predictions:
        """Turn the predictions of the described images into one list a query."""
