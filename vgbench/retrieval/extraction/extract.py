"""Images -> descriptors: the one place where images meet the network outside training."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench import parallel
from vgbench.data.decode import ANTIALIAS
from vgbench.data.encoded import on_device, reader_of
from vgbench.data.loader import image_loader
from vgbench.data.sequences import SequenceTable
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.models.network import Infer, Network, for_inference, in_fixed_batches
from vgbench.models.network import weights_hash as weights_hash
from vgbench.models.sequences.network import SequenceNetwork
from vgbench.retrieval.extraction.crops import Views
from vgbench.retrieval.extraction.extract_crops import GATHERED, describe_views
from vgbench.retrieval.extraction.store import DTYPES, Descriptors, is_reusable
from vgbench.retrieval.extraction.windows import check_unit, describe_windows
from vgbench.retrieval.extraction.writer import DescriptorWriter, writing_alone
from vgbench.runtime import Inference, Runtime

LOG = logging.getLogger(__name__)

Progress = Callable[[int], object]
Change = Callable[[Tensor], Tensor]


def _nothing(images: int) -> None:
    """What is done where nobody counts."""


@dataclass(frozen=True)
class Count:
    """What `extract` tells of the images that it is done with.

    Attributes:
        described: called with the number of images of each batch that was described.
        skipped: called once with the number of images that an earlier run had described.
    """

    described: Progress = _nothing
    skipped: Progress = _nothing


@dataclass(frozen=True)
class StoredForm:
    """What is stored of an image.

    Attributes:
        dtype: of the values, "float32" or "float16".
        views: describe these of each image instead of the whole image at `Inference.size`; the file then has
            `views.described` rows per image, one after the other.
        mirrored: describe each image mirrored left to right; plain images alone are.
    """

    dtype: str = "float32"
    views: Views | None = None
    mirrored: bool = False


PLAIN = StoredForm()


def describe(
    network: Network,
    table: ImageTable,
    rows: NDArray[np.int64],
    inference: Inference,
    *,
    progress: Progress | None = None,
    change: Change | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows int64 [B] on the CPU, descriptors float32 [B,D] on the device), in the order of `rows`.

    A row is an image, or a sequence where the table and the network are of those. Several ranks share the rows, and all
    get all descriptors. The network itself is left as it is: its inference form runs, in eval mode, without gradients,
    in the runtime's precision. One batch more than was asked for is never computed.

    Args:
        rows: int64 [M] into the table.
        inference: size, batches, processes and precision.
        progress: called with the number of images of each batch (a tqdm's `update` fits).
        change: what is done to each batch uint8 [B,3,H,W] on the device before the network sees it.

    Raises:
        UserError: an image cannot be read, or a network of sequences is given images.
    """
    check_unit(network, table)
    if len(rows) == 0:
        return
    inference = in_fixed_batches(network, inference)
    runtime, batch_size = inference.runtime, inference.batch_size
    infer = inference.form() if inference.form else form_of(network, runtime)

    def describe_own(own: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        if isinstance(network, SequenceNetwork) and isinstance(table, SequenceTable):
            changed = infer if change is None else lambda pixels: infer(change(pixels))
            yield from describe_windows(network, table, own, inference, changed)
            return
        loader = image_loader(
            table,
            own,
            size=inference.size,
            batch_size=batch_size,
            num_workers=inference.num_workers,
            read=reader_of(inference),
        )
        for images, batch in loader:
            pixels = runtime.to_device(on_device(images, runtime.device))
            yield batch, infer(pixels if change is None else change(pixels)).float()

    dim = network.descriptors_dim
    yield from parallel.share_out(rows, batch_size, describe_own, dim=dim, device=runtime.device, progress=progress)


def form_of(network: Network, runtime: Runtime) -> Infer:
    """Return what describes images, of a network of sequences single frames: `for_inference`."""
    return for_inference(network.of_frames if isinstance(network, SequenceNetwork) else network, runtime)


def describe_rows(
    network: Network,
    table: ImageTable,
    rows: NDArray[np.int64],
    inference: Inference,
    *,
    progress: Progress | None = None,
    change: Change | None = None,
) -> Tensor:
    """Describe some rows into one float32 tensor [len(rows), D] on the device; arguments as `describe`."""
    dim = network.descriptors_dim
    out = torch.empty((len(rows), dim), dtype=torch.float32, device=inference.runtime.device)
    done = 0
    for batch_rows, descriptors in describe(network, table, rows, inference, progress=progress, change=change):
        out[done : done + len(batch_rows)] = descriptors
        done += len(batch_rows)
    return out


def extract(
    network: Network,
    table: ImageTable,
    path: Path,
    inference: Inference,
    *,
    form: StoredForm = PLAIN,
    count: Count | None = None,
    fingerprint: str | None = None,
) -> Descriptors:
    """Describe every image of a table into the file at `path`, or reuse what is there.

    A finished file whose fingerprint matches is opened as it is; a partial one is continued. Anything that could change
    a descriptor (weights, images, size, preprocessing, precision) changes the fingerprint.

    Args:
        inference: size, batches, processes and precision.
        form: what is stored of an image.
        count: is told how many images were described, and how many an earlier run had described.
        fingerprint: `extraction_fingerprint` of all this, where the caller has it already.

    Raises:
        UserError: an empty table, an image that cannot be read, a descriptor that is not finite, or a file that cannot
            be written.
    """
    if len(table) == 0:
        raise UserError(f"{table.root}: no images to describe. Expected at least one (.jpg, .jpeg, .png)")
    count, inference = count or Count(), in_fixed_batches(network, inference)
    fingerprint = fingerprint or extraction_fingerprint(network, table, inference, form)
    with writing_alone(path) if parallel.is_main() else contextlib.nullcontext():
        dim, each, step = _shape(network, form, inference.batch_size)
        rows = len(table) * each
        if parallel.on_main(lambda: is_reusable(path, fingerprint, rows, dim, form.dtype)):
            LOG.info("%s: same weights, images and preprocessing; reused", path)
            count.skipped(len(table))
            return Descriptors(path)
        with contextlib.ExitStack() as files:
            writer = None
            if parallel.is_main():
                writer = files.enter_context(
                    DescriptorWriter(path, rows, dim, form.dtype, fingerprint, resume_multiple=step * each)
                )
            done = parallel.broadcast(writer.rows_done // each if writer else 0)
            if done:
                LOG.info("%s: continuing at image %d of %d", path, done, len(table))
                count.skipped(done)
            left = np.arange(done, len(table), dtype=np.int64)
            if form.views is None or form.views.plain:
                change = _mirror if form.mirrored else None
                batches = describe(network, table, left, inference, progress=count.described, change=change)
            else:
                batches = describe_views(network, table, left, form.views, inference, progress=count.described)
            _write_all(writer, batches, table, dim)
    parallel.barrier()
    return Descriptors(path)


def _mirror(images: Tensor) -> Tensor:
    return images.flip(-1)


def _shape(network: Network, form: StoredForm, batch_size: int) -> tuple[int, int, int]:
    """Return the dimensions of a row, the rows per image, and the images that are described together."""
    dim, views = network.descriptors_dim, form.views
    if views is None or views.plain:
        return dim, 1, batch_size
    return views.dim(dim), views.described, batch_size * (GATHERED if views.method.keeps_ratio else 1)


def _write_all(
    writer: DescriptorWriter | None, batches: Iterator[tuple[Tensor, Tensor]], table: ImageTable, dim: int
) -> None:
    """Write each batch while the device works on the next one; a rank without a writer helps to describe them."""
    pending: Tensor | None = None
    for _, descriptors in batches:
        if descriptors.shape[1] != dim:
            raise UserError(
                f"{table.root}: the network gives {descriptors.shape[1]} dimensions but declares {dim}. Expected its "
                "descriptors_dim to be true; mend the network"
            )
        if pending is not None and writer is not None:
            writer.write(pending.cpu())
        pending = descriptors
    if pending is not None and writer is not None:
        writer.write(pending.cpu())


def extraction_fingerprint(
    network: Network,
    table: ImageTable,
    inference: Inference,
    form: StoredForm = PLAIN,
    weights: str | None = None,
) -> str:
    """Return the sha256 (hex) of everything that determines the descriptors of a table.

    Args:
        weights: `weights_hash` of the network, where the caller has it already.

    Raises:
        UserError: an unknown data type of descriptors.
    """
    if form.dtype not in DTYPES:
        raise UserError(f"--descriptors_dtype {form.dtype}: not known. Expected one of {', '.join(DTYPES)}")
    facts: dict[str, Any] = {
        "layout": 1,
        "weights": weights or weights_hash(network),
        "images": table.fingerprint(),
        "count": len(table),
        "size": inference.size,
        "antialias": ANTIALIAS,
        "precision": str(inference.runtime.amp_dtype),
        "dtype": form.dtype,
        **inference.runtime.backend_facts,
    }
    if table.upright:
        facts["upright"] = True
    if form.views is not None and not form.views.plain:
        facts["views"] = form.views.facts()
    if form.mirrored:
        facts["mirrored"] = True
    if network.mixes_batch:
        facts["batch"] = network.mixed_batch
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
