"""A whitened network: one checkpoint of a network and a linear layer learned from pairs of images of one place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vgbench.combine.files import read_member
from vgbench.combine.options import WhitenOptions
from vgbench.combine.whitening import Whitening, fit_whitening, principal_components
from vgbench.data import (
    DataOptions,
    ImageTable,
    Neighbours,
    Split,
    dataset_root,
    neighbours_within,
    read_split,
)
from vgbench.data.augment import AugmentOptions, BatchAugment
from vgbench.errors import UserError
from vgbench.flags import plain
from vgbench.models import Network
from vgbench.models.whitened import build_whitened
from vgbench.options import changed_options
from vgbench.randomness import numpy_stream, torch_stream
from vgbench.retrieval.extraction.extract import Change, describe_rows
from vgbench.runtime import Inference

LOG = logging.getLogger(__name__)

_LAYER_BYTES = 2**31  # of a layer's weights, beyond which --dim is asked for; learning takes a few times as much

Describe = Callable[[ImageTable, NDArray[np.int64], Change | None], Tensor]


def whiten(
    path: Path,
    options: WhitenOptions,
    augmentation: AugmentOptions,
    data: DataOptions,
    inference: Inference,
    own: Collection[str] = (),
) -> dict[str, Any]:
    """Return the content of a whitened network's checkpoint, learned on the train split.

    Args:
        path: the checkpoint of the network.
        inference: how its descriptors are made.
        augmentation: where it varies queries, each is seen once more, varied, and paired with the same images: so the
            whitening also learns what night, say, changes.
        own: code outside this project that the checkpoint may name, since the user typed it.

    Raises:
        UserError: the file is missing or does not say which network it holds; there is no train split, or no pairs in
            it; the layer would be too large.
    """
    member = read_member(path, data.resize, own)
    check_dim(member.descriptors_dim, options.dim)
    split = read_split(dataset_root(data), "train")
    near = _neighbours(split, data, options)
    vary = _varying(augmentation)
    _check_images(near, options.dim, varied=vary is not None)
    describe = _describer(member, inference)
    descriptors, pairs = _pairs(split, near, options, vary, describe)
    LOG.info("whitening: %d pairs of %d images within %g m", len(pairs), len(descriptors), _radius(data))
    fitted = fit_whitening(descriptors, pairs, options.shrinkage)
    components = None if options.dim is None else principal_components(fitted.apply(descriptors), options.dim)
    network = _whitened(member.cpu(), fitted, components)
    facts = {"checkpoint": str(path), "dataset": split.root.name, "pairs": len(pairs), "radius_m": _radius(data)}
    facts |= {
        "shrinkage": options.shrinkage,
        "augmentation": {name: plain(value) for name, value in changed_options(augmentation).items()},
    }
    return {"model_state_dict": network.state_dict(), "network_config": network.config, "whitening": facts}


def _radius(data: DataOptions) -> float:
    return float(data.train_positives_dist_threshold)


def _varying(augmentation: AugmentOptions) -> Change | None:
    if not augmentation.changes_queries:
        return None
    augment, generator = BatchAugment(augmentation), torch_stream(0, "whitening")
    return lambda images: augment.vary(images, generator)


def _check_images(near: Neighbours, wanted: int | None, varied: bool) -> None:
    """Refuse more dimensions than the images that will be described can span, before they are."""
    queries, database = int(np.count_nonzero(near.counts)), len(np.unique(near.indices))
    images = queries * (2 if varied else 1) + database
    if wanted is not None and wanted >= images:  # their mean is taken away
        raise UserError(
            f"--dim {wanted}: the {images} images of pairs span at most {images - 1} dimensions. Expected at most as "
            "many; raise --pairs, or leave --dim out to keep all of the network's"
        )


def check_dim(dim: int, wanted: int | None) -> None:
    """Raise UserError where a network of `dim` dimensions cannot be whitened to the wanted ones, None for all."""
    if wanted is not None and wanted > dim:
        raise UserError(f"--dim {wanted}: the network gives {dim} dimensions. Expected at most as many")
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


def _describer(network: Network, inference: Inference) -> Describe:
    """Return (table, rows, change) -> L2-normalised descriptors float32 [M,D], as `describe_rows` takes them."""
    inference.runtime.prepare(network)

    def describe(table: ImageTable, rows: NDArray[np.int64], change: Change | None) -> Tensor:
        with tqdm(total=len(rows), desc=table.root.name, unit="img", disable=None, leave=False) as bar:
            found = describe_rows(network, table, rows, inference, progress=bar.update, change=change)
        return F.normalize(found, dim=1)

    return describe


def _pairs(
    split: Split, near: Neighbours, options: WhitenOptions, vary: Change | None, describe: Describe
) -> tuple[Tensor, Tensor]:
    """Return descriptors [M,D] of the queries with positives and of these, and pairs [P,2] of rows in them."""
    query_rows, database_rows = np.flatnonzero(near.counts), np.unique(near.indices)
    queries = describe(split.queries, query_rows, None)
    database = describe(split.database, database_rows, None)
    found = []
    for number, row in enumerate(query_rows):
        positives = torch.from_numpy(np.searchsorted(database_rows, near.of(int(row)))).to(database.device)
        alike = (database[positives] @ queries[number]).topk(min(options.positives, len(positives))).indices
        found += [(number, len(queries) + int(one)) for one in positives[alike]]
    pairs = torch.tensor(found[: options.pairs], device=queries.device)
    if vary is None:
        return torch.cat([queries, database]), pairs
    varied = describe(split.queries, query_rows, vary)
    again = pairs + torch.tensor([len(queries) + len(database), 0], device=pairs.device)
    return torch.cat([queries, database, varied]), torch.cat([pairs, again])


def _whitened(member: Network, fitted: Whitening, components: Tensor | None) -> Network:
    weight, bias = fitted.layer(components)
    network = build_whitened(member, len(weight))
    projection = network.backbone.projection
    with torch.no_grad():
        projection.weight.copy_(weight)  # type: ignore[union-attr,operator]
        projection.bias.copy_(bias)  # type: ignore[union-attr,operator]
    return network
