"""Features of the images that are needed, and of no others, through the store."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vgbench.data.decode import decode_image, resize_images
from vgbench.data.loader import Batches, BatchLoader
from vgbench.data.table import ImageTable
from vgbench.retrieval.extraction.writer import writing_alone
from vgbench.retrieval.rerank.local.features import Extractor, LocalFeatures
from vgbench.retrieval.rerank.local.store import FeatureStore
from vgbench.runtime import Inference

LOG = logging.getLogger(__name__)

ImageSize = int | tuple[int, int]
IMAGES_A_FILE = 64  # what an interruption loses at most
BATCH = {"cpu": 4, "cuda": 32}


def features_of(
    table: ImageTable,
    rows: NDArray[np.int64],
    make: Extractor,
    size: ImageSize,
    keypoints: int,
    path: Path,
    inference: Inference,
) -> FeatureStore:
    """Return the features of some rows of a table, made now where no earlier run has kept them.

    Args:
        rows: int64 [M], repetitions allowed.
        make: makes the features.
        size: the images' long side in pixels, their ratio kept, 0 for their own size; or exactly (height, width).
        keypoints: of an image at most, as `make` was told.
        path: how the folder that keeps them begins; what they are of is appended to its name.
        inference: processes that decode, and the device; the images' size is `size`.

    Raises:
        UserError: an image cannot be read, or the folder cannot be written.
    """
    fingerprint = features_fingerprint(table, make, size, keypoints)
    path = path.with_name(f"{path.name}_{make.name}-{fingerprint[:12]}")
    with writing_alone(path):
        store = FeatureStore(path, make.dim, make.binary)
        missing = store.missing(rows)
        kept = len(np.unique(rows)) - len(missing)
        if kept:
            LOG.info("%s: same weights, images and size; features of %d images reused", path, kept)
        if len(missing) == 0:
            return store
        LOG.debug("%s: %d images to find local features in", path, len(missing))
        with tqdm(total=len(missing), desc=path.name, unit="img", disable=None, leave=False) as bar:
            for start in range(0, len(missing), IMAGES_A_FILE):
                part = missing[start : start + IMAGES_A_FILE]
                found: list[tuple[int, LocalFeatures]] = []
                for one in _extracted(table, part, make, size, inference):
                    found.append(one)
                    bar.update(1)
                store.append([row for row, _ in found], [features for _, features in found])
    return store


def features_fingerprint(table: ImageTable, make: Extractor, size: ImageSize, keypoints: int) -> str:
    """Return the sha256 (hex) of everything that determines the features of a table."""
    facts = {"layout": 1, "features": make.name, "size": size, "keypoints": keypoints, "images": table.fingerprint()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _extracted(
    table: ImageTable, rows: NDArray[np.int64], make: Extractor, size: ImageSize, inference: Inference
) -> Iterator[tuple[int, LocalFeatures]]:
    """Yield (row, features), images of one shape in one call of the extractor."""
    batch_size = BATCH.get(inference.runtime.device.type, 4)
    for batch in BatchLoader(_OwnRatio(table, rows, size, batch_size), inference.num_workers):
        for members, images in batch:
            yield from zip(members, make(images), strict=True)


class _OwnRatio(Batches[list[tuple[list[int], Tensor]]]):
    """Batches of images that keep their ratio, as stacks of equal shape: (rows, uint8 [b,3,H,W])."""

    def __init__(self, table: ImageTable, rows: NDArray[np.int64], size: ImageSize, batch_size: int) -> None:
        self.table, self.rows, self.size, self.batch_size = table, rows, size, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def make(self, index: int) -> list[tuple[list[int], Tensor]]:
        groups: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
        for row in self.rows[index * self.batch_size : (index + 1) * self.batch_size].tolist():
            path = self.table.path(row)
            if isinstance(self.size, tuple):
                image = decode_image(path, self.size, upright=self.table.upright)
            else:
                image = with_long_side(decode_image(path, None, upright=self.table.upright), self.size)
            groups.setdefault(tuple(image.shape), []).append((row, image))
        return [([row for row, _ in group], torch.stack([image for _, image in group])) for group in groups.values()]


def with_long_side(image: Tensor, side: int) -> Tensor:
    """Resize uint8 [3,H,W] so that its longer side has `side` pixels; as it is for 0."""
    height, width = image.shape[1:]
    scale = side / max(height, width)
    if side == 0 or scale == 1:
        return image
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return resize_images(image[None], size)[0]
