"""Batches of images of one size each, whatever sizes a table holds, and their descriptors in the table's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench import parallel
from vgbench.data.decode import image_size
from vgbench.data.loader import Batches, BatchLoader, image_loader
from vgbench.data.table import ImageTable
from vgbench.models.network import Network, for_inference, in_fixed_batches
from vgbench.retrieval.extraction.crops import Views
from vgbench.runtime import Inference

GATHERED = 32  # batches of images within which those of one size are brought together
_HEADERS_AT_ONCE = 256


def describe_views(
    network: Network,
    table: ImageTable,
    rows: NDArray[np.int64],
    views: Views,
    inference: Inference,
    *,
    progress: Callable[[int], object] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows int64 [n] on the CPU, descriptors float32 [n*described,D] on the device), in the order of `rows`.

    Where the views keep an image's ratio, images of one size share a batch: they are brought together within
    GATHERED batches, whose descriptors are yielded at once.

    Args:
        rows: int64 [M] into the table.
        inference: batches, processes and precision; sizes are the views'.
        progress: called with the number of images of each batch.

    Raises:
        UserError: an image cannot be read, or is too small for the views.
    """
    if len(rows) == 0:
        return
    inference = in_fixed_batches(network, inference)
    runtime, batch_size = inference.runtime, inference.batch_size
    infer = inference.form() if inference.form else for_inference(network, runtime)
    dim = views.dim(network.descriptors_dim)

    def describe_alike(own: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        size = views.decoded(views.largest)
        loader = image_loader(table, own, size=size, batch_size=batch_size, num_workers=inference.num_workers)
        for images, batch in loader:
            yield batch, views.describe(infer, runtime.to_device(images))

    def describe_ratios(own: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        yield from _describe_ratios(infer, table, own, views, dim, inference)

    unit = batch_size * (GATHERED if views.method.keeps_ratio else 1)
    describe_own = describe_ratios if views.method.keeps_ratio else describe_alike
    yield from parallel.share_out(rows, unit, describe_own, dim=dim, device=runtime.device, progress=progress)


def _describe_ratios(
    infer: Callable[[Tensor], Tensor],
    table: ImageTable,
    rows: NDArray[np.int64],
    views: Views,
    dim: int,
    inference: Inference,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Describe images of many sizes: those of one size together, within GATHERED batches."""
    runtime, num_workers = inference.runtime, inference.num_workers
    plan = _Batches(rows, _decoded_sizes(table, rows, views, num_workers), inference.batch_size)
    out = torch.empty(0)
    missing = 0
    for images, positions in BatchLoader(_Framed(table, plan, views), num_workers):
        if not missing:
            start = int(positions[0]) // plan.span * plan.span
            missing = min(plan.span, len(rows) - start)
            out = torch.empty((missing, views.described, dim), device=runtime.device)
        described = views.describe(infer, runtime.to_device(images))
        out[(positions % plan.span).to(runtime.device)] = described.view(len(positions), views.described, -1)
        missing -= len(positions)
        if not missing:
            yield torch.from_numpy(rows[start : start + len(out)].copy()), out.flatten(0, 1)


class _Batches:
    """Which images make a batch: [batches] of (positions in `rows` int64 [n], height, width)."""

    def __init__(self, rows: NDArray[np.int64], sizes: NDArray[np.int64], batch_size: int) -> None:
        self.rows = rows
        self.span = batch_size * GATHERED
        self.batches: list[tuple[NDArray[np.int64], int, int]] = []
        for start in range(0, len(rows), self.span):
            part = sizes[start : start + self.span]
            kinds, which = np.unique(part, axis=0, return_inverse=True)
            for kind, (height, width) in enumerate(kinds):
                positions = start + np.flatnonzero(which.reshape(-1) == kind)
                self.batches += [
                    (positions[first : first + batch_size], int(height), int(width))
                    for first in range(0, len(positions), batch_size)
                ]


class _Framed(Batches[tuple[Tensor, Tensor]]):
    """uint8 [B,3,H,W] of one size and their positions int64 [B]."""

    def __init__(self, table: ImageTable, plan: _Batches, views: Views) -> None:
        self.table, self.plan, self.views = table, plan, views

    def __len__(self) -> int:
        return len(self.plan.batches)

    def make(self, index: int) -> tuple[Tensor, Tensor]:
        positions, height, width = self.plan.batches[index]
        rows = self.plan.rows[positions]
        images = [
            self.views.decode(self.table.path(int(row)), (height, width), upright=self.table.upright) for row in rows
        ]
        return torch.stack(images), torch.from_numpy(positions)


class _Headers(Batches[NDArray[np.int64]]):
    """The sizes int64 [n,2] that some images will be decoded to."""

    def __init__(self, table: ImageTable, rows: NDArray[np.int64], views: Views) -> None:
        self.table, self.rows, self.views = table, rows, views

    def __len__(self) -> int:
        return -(-len(self.rows) // _HEADERS_AT_ONCE)

    def make(self, index: int) -> NDArray[np.int64]:
        rows = self.rows[index * _HEADERS_AT_ONCE : (index + 1) * _HEADERS_AT_ONCE]
        sizes = (image_size(self.table.path(int(row)), upright=self.table.upright) for row in rows)
        return np.array([self.views.decoded(size) for size in sizes], np.int64)


def _decoded_sizes(table: ImageTable, rows: NDArray[np.int64], views: Views, num_workers: int) -> NDArray[np.int64]:
    """Read the headers of images: int64 [M,2]."""
    return np.concatenate(list(BatchLoader(_Headers(table, rows, views), num_workers, pin_memory=False)))
