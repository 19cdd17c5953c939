"""descriptors: candidates by the descriptors of a second network, such as the floats behind a search among codes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models.network import Network, for_inference
from vgbench.models.network_file import read_network_file
from vgbench.models.releases import RELEASES, load_release, release_of
from vgbench.retrieval.extraction.extract import weights_hash
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.retrieval.rerank.local.store import FeatureStore
from vgbench.retrieval.rerank.local.verification import features_of_both
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.rerank.order import reordered
from vgbench.runtime import Runtime


class DescriptorReranker(Reranker):
    """Orders the candidates by the distance of another network's descriptors, after SelaVPR++ (Lu et al., 2025).

    There, codes of 512 bits find the candidates and long floats order them. The distances become Euclidean ones; equal
    ones keep their order. Only images that are some query's candidate are described a second time.
    """

    @staticmethod
    def check(network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
        """Raise UserError where there is no such network, or its descriptors depend on their batch."""
        second_network(options)

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        head = min(context.options.rerank_topk, predictions.indices.shape[1])
        candidates = predictions.indices[:, :head]
        start = time.perf_counter()
        network, size = second_network(context.options)
        extractor = DescriptorExtractor(network, context.runtime)
        queries, database = features_of_both(extractor, size or context.size, 0, candidates, context)
        preparing = time.perf_counter() - start
        costs = np.empty(candidates.shape)
        for place, query in enumerate(context.all_queries[1].tolist()):
            own = _descriptors(queries, [query])
            others = _descriptors(database, candidates[place].tolist())
            costs[place] = np.linalg.norm(others - own, axis=1)
        bytes_per_image = database.bytes_per_image
        queries.close()
        database.close()
        return Reranked(reordered(predictions, costs), bytes_per_image, preparing)


def second_network(options: RerankOptions) -> tuple[Network, tuple[int, int] | None]:
    """Return the network of `--rerank_network`, and the size of its images where it says one.

    Raises:
        UserError: it is not said or not known, a file cannot be read, or the images of a batch are mixed.
    """
    name, weights = options.rerank_network, options.rerank_weights
    if name is None:
        raise UserError(
            "--rerank descriptors: says no second network. Expected --rerank_network with a name that --method knows, "
            "or a checkpoint"
        )
    size: tuple[int, int] | None = None
    if name in RELEASES or not Path(name).is_file():
        network = load_release(name, weights=Path(weights) if weights else None)
        size = release_of(name).size
    else:
        if weights:
            raise UserError(f"--rerank_weights {weights}: {name} has its weights. Expected one of the two")
        network = read_network_file(Path(name), name=f"--rerank_network {name}").network()
    if network.mixes_batch:
        raise UserError(
            f"--rerank_network {name}: its descriptors depend on the other images of a batch. Expected a network that "
            "looks at each image alone"
        )
    return network.eval(), size


class DescriptorExtractor:
    """Descriptors as local features: one an image, at its centre, float32 [1,D].

    Args:
        network: makes them.
        runtime: the device and precision.
    """

    binary = False

    def __init__(self, network: Network, runtime: Runtime) -> None:
        self._compute, self._runtime = for_inference(network, runtime), runtime
        self.dim = network.descriptors_dim
        self.name = f"descriptors-{weights_hash(network)[:12]}-{runtime.amp_dtype}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[LocalFeatures]:
        height, width = images.shape[2:]
        found = self._compute(self._runtime.to_device(images)).float().cpu().numpy()
        centre = np.array([[width / 2, height / 2]], np.float32)
        return [LocalFeatures(centre, one[None], (width, height)) for one in found]


def _descriptors(store: FeatureStore, rows: list[int]) -> NDArray[np.float32]:
    """Return the descriptors of some images, float32 [n,D]."""
    return np.concatenate([store.read(row).vectors() for row in rows])
