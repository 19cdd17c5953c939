"""Images -> descriptors: the one place where images meet the network outside training."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench import parallel
from vgbench.data.decode import ANTIALIAS
from vgbench.data.loader import image_loader
from vgbench.data.table import ImageTable
from vgbench.errors import UserError
from vgbench.models.geowarp import NAME as GEOWARP
from vgbench.models.inference import for_inference
from vgbench.models.network import Network
from vgbench.retrieval.extraction.crops import Views
from vgbench.retrieval.extraction.extract_crops import GATHERED, describe_views
from vgbench.retrieval.extraction.share_out import share_out
from vgbench.retrieval.extraction.store import DTYPES, Descriptors, DescriptorWriter, stored_fingerprint, writing_alone
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)

Progress = Callable[[int], object]
Change = Callable[[Tensor], Tensor]
_HASH_BYTES = 64 * 2**20


def describe(
    network: Network,
    table: ImageTable,
    rows: NDArray[np.int64],
    *,
    size: tuple[int, int] | None,
    batch_size: int,
    num_workers: int,
    runtime: Runtime,
    progress: Progress | None = None,
    change: Change | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows int64 [B] on the CPU, descriptors float32 [B,D] on the device), in the order of `rows`.

    Several ranks share the images, and all get all descriptors. The network itself is left as it is: its inference
    form runs, in eval mode, without gradients, in the runtime's precision. One batch more than was asked for is never
    computed.

    Args:
        rows: int64 [M] into the table.
        size: height and width in pixels, or None for the images' own.
        progress: called with the number of images of each batch (a tqdm's `update` fits).
        change: what is done to each batch uint8 [B,3,H,W] on the device before the network sees it.

    Raises:
        UserError: an image cannot be read.
    """
    if len(rows) == 0:
        return
    infer = for_inference(network, runtime)

    def describe_own(own: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, batch in image_loader(table, own, size=size, batch_size=batch_size, num_workers=num_workers):
            pixels = runtime.to_device(images)
            yield batch, infer(pixels if change is None else change(pixels)).float()

    dim = descriptors_dim(network)
    yield from share_out(rows, batch_size, describe_own, dim=dim, device=runtime.device, progress=progress)


def describe_rows(
    network: Network,
    table: ImageTable,
    rows: NDArray[np.int64],
    *,
    size: tuple[int, int] | None,
    batch_size: int,
    num_workers: int,
    runtime: Runtime,
    progress: Progress | None = None,
    change: Change | None = None,
) -> Tensor:
    """Describe some rows into one float32 tensor [len(rows), D] on the device; arguments as `describe`."""
    dim = descriptors_dim(network)
    out = torch.empty((len(rows), dim), dtype=torch.float32, device=runtime.device)
    done = 0
    batches = describe(
        network,
        table,
        rows,
        size=size,
        batch_size=batch_size,
        num_workers=num_workers,
        runtime=runtime,
        progress=progress,
        change=change,
    )
    for batch_rows, descriptors in batches:
        out[done : done + len(batch_rows)] = descriptors
        done += len(batch_rows)
    return out


def extract(
    network: Network,
    table: ImageTable,
    path: Path,
    *,
    size: tuple[int, int] | None,
    batch_size: int,
    num_workers: int,
    runtime: Runtime,
    dtype: str = "float32",
    progress: Progress | None = None,
    skipped: Progress | None = None,
    fingerprint: str | None = None,
    views: Views | None = None,
) -> Descriptors:
    """Describe every image of a table into the file at `path`, or reuse what is there.

    A finished file whose fingerprint matches is opened as it is; a partial one is continued. Anything that could change
    a descriptor (weights, images, size, preprocessing, precision) changes the fingerprint.

    Args:
        dtype: "float32" or "float16", as stored.
        progress: called with the number of images of each batch that was described.
        skipped: called once with the number of images that an earlier run had described.
        fingerprint: `extraction_fingerprint` of all this, where the caller has it already.
        views: describe these of each image instead of the whole image at `size`; the file then has
            `views.described` rows an image, one after the other.

    Raises:
        UserError: an empty table, an image that cannot be read, a descriptor that is not finite, or a file that cannot
            be written.
    """
    if len(table) == 0:
        raise UserError(f"{table.root}: no images to describe. Expected at least one (.jpg, .jpeg, .png)")
    views = None if views is not None and views.plain else views
    fingerprint = fingerprint or extraction_fingerprint(
        network, table, size=size, runtime=runtime, dtype=dtype, views=views
    )
    with writing_alone(path) if parallel.is_main() else contextlib.nullcontext():
        if parallel.broadcast(stored_fingerprint(path) == fingerprint):
            LOG.info("%s: same weights, images and preprocessing; reused", path)
            if skipped is not None:
                skipped(len(table))
            return Descriptors(path)
        _describe_into(
            path, network, table, fingerprint, size=size, batch_size=batch_size, num_workers=num_workers,
            runtime=runtime, dtype=dtype, progress=progress, skipped=skipped, views=views,
        )  # fmt: skip
    parallel.barrier()
    return Descriptors(path)


def _describe_into(
    path: Path,
    network: Network,
    table: ImageTable,
    fingerprint: str,
    *,
    size: tuple[int, int] | None,
    batch_size: int,
    num_workers: int,
    runtime: Runtime,
    dtype: str,
    progress: Progress | None,
    skipped: Progress | None,
    views: Views | None,
) -> None:
    dim, each, step = descriptors_dim(network), 1, batch_size
    if views is not None:
        dim, each = views.dim(dim), views.described
        step *= GATHERED if views.method.keeps_ratio else 1
    with contextlib.ExitStack() as files:
        writer = None
        if parallel.is_main():
            writer = files.enter_context(
                DescriptorWriter(path, len(table) * each, dim, dtype, fingerprint, resume_multiple=step * each)
            )
        done = parallel.broadcast(writer.rows_done // each if writer else 0)
        if done:
            LOG.info("%s: continuing at image %d of %d", path, done, len(table))
            if skipped is not None:
                skipped(done)
        rows = np.arange(done, len(table), dtype=np.int64)
        if views is None:
            batches = describe(
                network, table, rows, size=size, batch_size=batch_size, num_workers=num_workers, runtime=runtime,
                progress=progress,
            )  # fmt: skip
        else:
            batches = describe_views(
                network, table, rows, views=views, batch_size=batch_size, num_workers=num_workers, runtime=runtime,
                progress=progress,
            )  # fmt: skip
        _write_all(writer, batches, table, dim)


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


def descriptors_dim(network: Network) -> int:
    """Return the dimensions of a network's descriptors."""
    return int(network.descriptors_dim)


def weights_hash(network: Network) -> str:
    """Return the sha256 (hex) of every parameter and buffer (non-persistent ones too) and of the configuration.

    Those of GeoWarp are left out: descriptors do not depend on it.
    """
    config = {key: value for key, value in network.config.items() if key != GEOWARP}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    named = [*network.named_parameters(), *network.named_buffers()]
    named = [(name, tensor) for name, tensor in named if not name.startswith(f"{GEOWARP}.")]
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy()
        for start in range(0, len(flat), _HASH_BYTES):
            digest.update(flat[start : start + _HASH_BYTES].data)
    return digest.hexdigest()


def extraction_fingerprint(
    network: Network,
    table: ImageTable,
    *,
    size: tuple[int, int] | None,
    runtime: Runtime,
    dtype: str,
    weights: str | None = None,
    views: Views | None = None,
) -> str:
    """Return the sha256 (hex) of everything that determines the descriptors of a table."""
    if dtype not in DTYPES:
        raise UserError(f"--descriptors_dtype {dtype}: not known. Expected one of {', '.join(DTYPES)}")
    facts = {
        "layout": 1,
        "weights": weights or weights_hash(network),
        "images": table.fingerprint(),
        "count": len(table),
        "size": size,
        "antialias": ANTIALIAS,
        "precision": str(runtime.amp_dtype),
        "dtype": dtype,
    }
    if views is not None and not views.plain:
        facts["views"] = views.facts()
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
