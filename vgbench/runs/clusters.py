"""The first clusters of NetVLAD layers: k-means over local features of images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from vgbench import parallel
from vgbench.data import DataOptions, ImageTable, Split, image_loader, read_folder
from vgbench.data.layout import split_folder
from vgbench.data.verify import check_images
from vgbench.models import Network, initialise_netvlad
from vgbench.models.aggregation.netvlad_init import IMAGES as CLUSTERING_IMAGES
from vgbench.models.aggregation.netvlad_init import netvlad_of
from vgbench.randomness import numpy_stream
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)


def needs_clusters(network: Network) -> bool:
    """Whether a network has a NetVLAD layer whose clusters come from images; a released one brings its own."""
    return netvlad_of(network) is not None and "method" not in network.config


def database_for_clusters(root: Path, test_split: Split, options: DataOptions) -> ImageTable:
    """The images that NetVLAD's clusters are computed on: train's, and the test database's where there is no train."""
    folder = split_folder(root, "train") / "database"
    if not folder.is_dir():
        LOG.warning("%s has no train split: NetVLAD's clusters come from the test database", root)
        return test_split.database
    return check_images(read_folder(folder), options.on_bad_image, options.checkers)


def initialise_clusters(network: Network, table: ImageTable, options: DataOptions, seed: int, runtime: Runtime) -> None:
    """Put the clusters of a NetVLAD layer, where the network has one, on local features of images of `table`."""
    if not needs_clusters(network):
        return
    parallel.on_main(lambda: _cluster(network, table, options, seed, runtime))
    parallel.broadcast_module(network)


def _cluster(network: Network, table: ImageTable, options: DataOptions, seed: int, runtime: Runtime) -> None:
    LOG.info("NetVLAD: k-means over local features of %d images", min(CLUSTERING_IMAGES, len(table)))
    rows = numpy_stream(seed, "clusters").permutation(len(table))[:CLUSTERING_IMAGES].astype(np.int64)
    loader = image_loader(table, rows, size=options.resize, batch_size=16, num_workers=options.workers)
    initialise_netvlad(network, (images for images, _ in loader), seed, runtime)
