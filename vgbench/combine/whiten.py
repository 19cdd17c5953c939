"""A whitened network: one checkpoint of a network and a linear layer learned from pairs of images of one place."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vgbench.combine.files import read_network_file
from vgbench.data import DataOptions, ImageTable, Neighbours, Split, dataset_root, neighbours_within, read_split
from vgbench.errors import UserError
from vgbench.models import Network, rebuild_network
from vgbench.models.whitened import build_whitened
from vgbench.randomness import numpy_stream
from vgbench.retrieval.extract import describe_rows
from vgbench.retrieval.whitening import fit_whitening, principal_components
from vgbench.runtime import Runtime

LOG = logging.getLogger("vgbench")

_LAYER_BYTES = 2**31  # of a layer's weights, beyond which --dim is asked for


@dataclass(frozen=True)
class WhitenOptions:
    """How a whitening is learned.

    Attributes:
        positives: of a query, at most so many pairs: with the database images of its place that look most alike.
        pairs: at most so many altogether, of queries drawn at random.
        shrinkage: how far the covariance of the pairs is drawn towards an even spread, above 0 up to 1.
        dim: dimensions to keep, those of the largest variance after whitening; None: the network's.
    """

    checkpoints: tuple[Path, ...]
    positives: int = 8
    pairs: int = 8192
    shrinkage: float = 0.5
    dim: int | None = None
    infer_batch_size: int = 16


def whiten(options: WhitenOptions, data: DataOptions, runtime: Runtime) -> dict[str, Any]:
    """Return the content of a whitened network's checkpoint, learned on the train split.

    Raises:
        UserError: a file is missing or does not say which network it holds; there is no train split, or no pairs in
            it; the layer would be too large.
    """
    content = read_network_file(options.checkpoints[0])
    member = rebuild_network(content["network_config"], content).eval()
    _check_layer(member.descriptors_dim, options.dim)
    split = read_split(dataset_root(data), "train")
    near = _neighbours(split, data, options)
    runtime.place(member)
    descriptors, pairs = _descriptors_and_pairs(member, split, near, options, data, runtime)
    LOG.info("whitening: %d pairs of %d images within %g m", len(pairs), len(descriptors), _radius(data))
    fitted = fit_whitening(descriptors, pairs, options.shrinkage)
    components = None if options.dim is None else principal_components(fitted.apply(descriptors), options.dim)
    weight, bias = fitted.layer(components)
    network = build_whitened(member.cpu(), len(weight))
    projection = network.backbone.projection
    with torch.no_grad():
        projection.weight.copy_(weight)  # type: ignore[union-attr,operator]
        projection.bias.copy_(bias)  # type: ignore[union-attr,operator]
    return {
        "model_state_dict": network.state_dict(),
        "network_config": network.config,
        "whitening": {
            "checkpoint": str(options.checkpoints[0]), "dataset": split.root.name, "pairs": len(pairs),
            "radius_m": _radius(data), "shrinkage": options.shrinkage,
        },
    }  # fmt: skip


def _radius(data: DataOptions) -> float:
    return float(data.train_positives_dist_threshold)


def _check_layer(dim: int, wanted: int | None) -> None:
    if 4 * dim * (wanted or dim) > _LAYER_BYTES:
        raise UserError(
            f"{dim} dimensions: a layer of {wanted or dim} by {dim} weights would take "
            f"{4e-9 * dim * (wanted or dim):.1f} GB. Expected fewer to be kept; give --dim, such as --dim 4096"
        )


def _neighbours(split: Split, data: DataOptions, options: WhitenOptions) -> Neighbours:
    """Return the positives of a random choice of queries that have enough of them; the others have none left."""
    near = neighbours_within(split.queries.utm, split.database.utm, _radius(data))
    order = numpy_stream(0, "whitening").permutation(len(near))
    counts = np.minimum(near.counts, options.positives)[order]
    chosen = np.zeros(len(near), bool)
    chosen[order[np.cumsum(counts) - counts < options.pairs]] = True
    if not near.counts[chosen].any():
        raise UserError(
            f"{split.root.name}: no train query has a database image within {_radius(data):g} m. Expected pairs of one "
            "place; give a larger --train_positives_dist_threshold"
        )
    kept = np.repeat(chosen, near.counts)
    return Neighbours.from_csr(np.concatenate([[0], np.cumsum(near.counts * chosen)]), near.indices[kept])


def _descriptors_and_pairs(
    network: Network, split: Split, near: Neighbours, options: WhitenOptions, data: DataOptions, runtime: Runtime
) -> tuple[Tensor, Tensor]:
    """Return descriptors [M,D] of the queries with positives and of these, and the pairs [P,2] of rows in them."""
    query_rows, database_rows = np.flatnonzero(near.counts), np.unique(near.indices)

    def described(table: ImageTable, rows: NDArray[np.int64]) -> Tensor:
        with tqdm(total=len(rows), desc=table.root.name, unit="img", disable=None, leave=False) as bar:
            return torch.nn.functional.normalize(
                describe_rows(
                    network, table, rows, size=data.resize, batch_size=options.infer_batch_size,
                    num_workers=data.num_workers, runtime=runtime, progress=bar.update,
                ),
                dim=1,
            )  # fmt: skip

    queries, database = described(split.queries, query_rows), described(split.database, database_rows)
    pairs = []
    for number, row in enumerate(query_rows):
        positives = torch.from_numpy(np.searchsorted(database_rows, near.of(int(row)))).to(database.device)
        alike = (database[positives] @ queries[number]).topk(min(options.positives, len(positives))).indices
        pairs += [(number, len(queries) + int(one)) for one in positives[alike]]
    return torch.cat([queries, database]), torch.tensor(pairs[: options.pairs], device=queries.device)
