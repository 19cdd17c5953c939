from .augment import AugmentOptions, BatchAugment
from .decode import decode_image
from .loader import image_loader
from .options import DataOptions, dataset_root, train_root, train_roots
from .positives import Neighbours, neighbours_within
from .protocol import ImageName, Split, format_name, parse_name, read_folder, read_split
from .table import ImageTable, TableBuilder
from .triplets import TripletBatch, Triplets, triplet_loader
from .verify import BadImages, check_images, find_bad_images

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
    "train_roots",
    "triplet_loader",
]
