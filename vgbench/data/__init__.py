"""Image folders -> tables, positives and batches of pixels."""

from vgbench.data.decode import decode_image
from vgbench.data.loader import image_loader
from vgbench.data.options import DataOptions, dataset_root
from vgbench.data.positives import Neighbours, neighbours_within
from vgbench.data.protocol import ImageName, Split, format_name, parse_name, read_folder, read_split
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.data.triplets import TripletBatch, Triplets, triplet_loader

__all__ = [
    "DataOptions",
    "ImageName",
    "ImageTable",
    "Neighbours",
    "Split",
    "TableBuilder",
    "TripletBatch",
    "Triplets",
    "dataset_root",
    "decode_image",
    "format_name",
    "image_loader",
    "neighbours_within",
    "parse_name",
    "read_folder",
    "read_split",
    "triplet_loader",
]
