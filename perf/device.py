"""What a GPU may do in another way, beside the usual one: graphs, decoding of JPEG files, fused optimisers.

On a CPU the two that run there too, so that the measurement itself can be tried: torchvision decodes, and `fused=True`
is torch's vectorised loop.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from perf.measure import Pair, in_turn, pair_of
from perf.scene import write_images
from vgbench.models import build_network, for_inference
from vgbench.retrieval.extraction.extract import describe_rows
from vgbench.runtime import Inference, Runtime

NETWORKS = ("resnet18conv4", "efficientnet_lite0_s16", "dinov2_vits14")
SIZE, BATCH = (224, 224), 16


def measure(runtime: Runtime, images: int, workers: int, rounds: int) -> list[Pair]:
    """Return all pairs that this device can run: the other way as ours, the usual one as the reference."""
    pairs = [_optimiser(name, runtime, rounds) for name in ("Adam", "AdamW", "SGD")]
    pairs.append(_decoding(runtime, images, workers, rounds))
    if runtime.device.type == "cuda":
        pairs += [_graphs(backbone, runtime, images, rounds) for backbone in NETWORKS]
    return pairs


def _waiting(runtime: Runtime, work: Callable[[], object]) -> Callable[[], object]:
    """Return the same work, ended when the device has done it."""

    def done() -> None:
        work()
        if runtime.device.type == "cuda":
            torch.cuda.synchronize()

    return done


def _graphs(backbone: str, runtime: Runtime, images: int, rounds: int) -> Pair:
    """Describe images that are on the device already, in batches, by CUDA graphs beside eager PyTorch."""
    network = build_network(backbone, "gem", pretrain="none")
    runtime.prepare(network)
    batches = torch.randint(0, 256, (-(-images // BATCH), BATCH, 3, *SIZE), dtype=torch.uint8, device=runtime.device)

    def by(backend: str) -> Callable[[], object]:
        form = for_inference(network, dataclasses.replace(runtime, backend=backend))
        return _waiting(runtime, lambda: [form(batch) for batch in batches])

    what = f"describe, {backbone} + gem, {SIZE[0]}x{SIZE[1]}, batches of {BATCH}: CUDA graphs beside eager"
    return pair_of(what, "images/s", *in_turn(by("cudagraphs"), by("eager"), rounds), len(batches) * BATCH)


def _decoding(runtime: Runtime, images: int, workers: int, rounds: int) -> Pair:
    """Describe JPEG files of 480x640 that the device decodes, beside processes that decode them."""
    network = build_network("efficientnet_lite0_s16", "gem", pretrain="none")
    runtime.prepare(network)
    with tempfile.TemporaryDirectory() as folder:
        table = write_images(Path(folder) / "images", images, (480, 640))
        rows = np.arange(len(table), dtype=np.int64)

        def decoded(by_device: bool) -> Callable[[], object]:
            inference = Inference(SIZE, BATCH, workers, dataclasses.replace(runtime, device_jpeg=by_device))
            return _waiting(runtime, lambda: describe_rows(network, table, rows, inference))

        times = in_turn(decoded(True), decoded(False), rounds)
    what = f"extract, efficientnet_lite0_s16 + gem, {SIZE[0]}x{SIZE[1]}, {workers} workers: JPEG decoded by the device"
    return pair_of(f"{what} beside by the workers", "images/s", *times, images)


def _optimiser(name: str, runtime: Runtime, rounds: int) -> Pair:
    """One step of an optimiser of ResNet-50's weights: fused beside torch's own choice."""
    network = runtime.prepare(build_network("resnet50conv4", "gem", pretrain="none")).requires_grad_(True)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    made = [getattr(torch.optim, name)(network.parameters(), lr=1e-6, **words) for words in ({"fused": True}, {})]
    ours, usual = (_waiting(runtime, optimizer.step) for optimizer in made)
    return pair_of(
        f"optimiser step, {name}, resnet50conv4: fused beside torch's own choice", "s", *in_turn(ours, usual, rounds)
    )
