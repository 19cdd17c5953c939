"""Images described a second, from JPEG files to descriptors, beside a plain float32 pipeline of the same network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from perf.measure import Pair, Partner, in_turn, pair_of
from perf.scene import write_images
from vgbench.data import ImageTable
from vgbench.models import Network, build_network, initialise_netvlad
from vgbench.models.aggregation.netvlad_init import netvlad_of
from vgbench.retrieval.extraction.extract import describe_rows
from vgbench.runtime import Inference, Runtime


def measure(runtime: Runtime, backbone: str, aggregation: str, size: tuple[int, int], images: int, rounds: int) -> Pair:
    """Compare `retrieval.describe_rows` with a loop of decode, float tensors, eager float32 forward."""
    network = build_network(backbone, aggregation, pretrain="none").eval()
    with tempfile.TemporaryDirectory() as folder:
        table = write_images(Path(folder) / "images", images, size)
        rows = np.arange(len(table), dtype=np.int64)
        if netvlad_of(network) is not None:
            initialise_netvlad(network, [torch.randint(0, 256, (8, 3, *size), dtype=torch.uint8)], seed=0)
        runtime.prepare(network)

        def ours() -> Tensor:
            return describe_rows(network, table, rows, Inference(size, 16, 0, runtime))

        with Partner(plain_extractor, backbone, aggregation, table, size, runtime.device.type) as reference:
            times = in_turn(ours, reference, rounds)
    return pair_of(
        f"extract, {backbone} + {aggregation}, {size[0]}x{size[1]}, {images} JPEG files", "images/s", *times, images
    )


def plain_extractor(
    backbone: str, aggregation: str, table: ImageTable, size: tuple[int, int], device: str
) -> Callable[[], Tensor]:
    """Return the extraction of a straightforward script with the same network."""
    network = build_network(backbone, aggregation, pretrain="none").eval().to(device)
    return lambda: plain_descriptors(network, table, size, torch.device(device))


@torch.no_grad()
def plain_descriptors(network: Network, table: ImageTable, size: tuple[int, int], device: torch.device) -> Tensor:
    """What a straightforward script does: decode, to float, normalise and resize each image; eager float32 batches."""
    described = []
    for start in range(0, len(table), 16):
        batch = [plain_image(table.path(row), size, network) for row in range(start, min(start + 16, len(table)))]
        described.append(network(torch.stack(batch).to(device)).cpu())
    return torch.cat(described)


def plain_image(path: Path, size: tuple[int, int], network: Network) -> Tensor:
    """Decode in full, to float [3,H,W], normalise, resize."""
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255
    normal = (pixels - network.mean[0].cpu()) / network.std[0].cpu()
    return F.interpolate(normal[None], size=size, mode="bilinear", antialias=True)[0]
