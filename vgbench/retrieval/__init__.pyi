from .evaluation import Evaluation, evaluate
from .extraction.extract import describe, describe_rows, extract
from .extraction.store import Descriptors
from .extraction.writer import DescriptorWriter, write_descriptors
from .metrics.recall import recall_table, recalls
from .options import EvalOptions
from .predictions import Predictions
from .searching.exact import search

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
