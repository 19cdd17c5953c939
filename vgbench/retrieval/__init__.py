"""Descriptors of images, exact search among them, and how often the search is right."""

from vgbench.retrieval.evaluate import Evaluation, evaluate
from vgbench.retrieval.extraction.extract import describe, describe_rows, extract
from vgbench.retrieval.extraction.store import Descriptors, DescriptorWriter, write_descriptors
from vgbench.retrieval.metrics.recall import recall_table, recalls
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.searching.exact import search

__all__ = [
    "DescriptorWriter",
    "Descriptors",
    "EvalOptions",
    "Evaluation",
    "Predictions",
    "describe",
    "describe_rows",
    "evaluate",
    "extract",
    "recall_table",
    "recalls",
    "search",
    "write_descriptors",
]
