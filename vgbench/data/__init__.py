"""Image folders -> tables, positives and batches of pixels."""

from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.data.decode import decode_image
from vgbench.data.loader import image_loader
from vgbench.data.options import DataOptions, dataset_root, train_root
from vgbench.data.positives import Neighbours, neighbours_within
from vgbench.data.protocol import ImageName, Split, format_name, parse_name, read_folder, read_split
from vgbench.data.table import ImageTable, TableBuilder
from vgbench.data.triplets import TripletBatch, Triplets, triplet_loader
from vgbench.data.verify import BadImages, check_images, find_bad_images

__all__ = [
    "AugmentOptions",
    "BadImages",
    "BatchAugment",
    "DataOptions",
    "ImageName",
    "ImageTable",
    "Neighbours",
    "Split",
    "TableBuilder",
    "TripletBatch",
    "Triplets",
    "check_images",
    "dataset_root",
    "decode_image",
    "find_bad_images",
    "format_name",
    "image_loader",
    "neighbours_within",
    "parse_name",
    "read_folder",
    "read_split",
    "train_root",
    "triplet_loader",
]
