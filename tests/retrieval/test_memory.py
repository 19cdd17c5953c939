"""What a test holds at a time does not grow with the images, at many dimensions too: counted in bytes allocated."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from vgbench.data import read_folder
from vgbench.data.protocol import Split
from vgbench.models.aggregation.netvlad import NetVLAD
from vgbench.models.base import Backbone
from vgbench.models.network import Network
from vgbench.retrieval.extraction.extract import extract
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.extraction.writer import write_descriptors
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.expansion import QueryExpansion
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.retrieval.rerank.local.reranker import LocalReranker
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.searching.exact import search
from vgbench.runtime import Inference, Runtime

DIM, BLOCK = 4096, 2**18
EACH = 300  # bytes of an image that may be held: its row of the table, of the predictions and the like


def most_held(work: Callable[[], object]) -> int:
    """The most bytes of torch's and of numpy's allocations during some work."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        tracemalloc.start()
        kept = work()
        traced = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    del kept
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return traced + int(np.cumsum(changes).max(initial=0))


def files(folder: Path, count: int) -> tuple[Descriptors, Descriptors]:
    random = torch.Generator().manual_seed(0)
    made = (torch.randn((rows, DIM), generator=random) for rows in (count, count // 2))
    return tuple(write_descriptors(folder / f"{count}_{n}.h5", one, f"{n}") for n, one in enumerate(made))  # type: ignore[return-value]


def context_of(database: Descriptors, queries: Descriptors, search_in_blocks: Any) -> RerankContext:
    nothing: Any = None
    return RerankContext(
        nothing, database, queries, nothing, RerankOptions(rerank=("aqe",)), nothing, nothing, search_in_blocks
    )


def test_the_count_sees_what_both_libraries_hold() -> None:
    assert 24e6 <= most_held(lambda: (torch.zeros(10**6), np.zeros(10**6), torch.zeros(3 * 10**6))) < 25e6


def test_search_and_reranking_hold_no_more_for_more_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgbench.retrieval.rerank.expansion._BYTES", BLOCK)
    monkeypatch.setattr("vgbench.retrieval.searching.candidates._ROUND_BYTES", (BLOCK // 8, BLOCK))

    def found_by(database: Descriptors, queries: Descriptors, k: int) -> Any:
        return search(database, queries, k, block_bytes=BLOCK)

    held = {}
    for count in (512, 1024):
        with files(tmp_path, count)[0] as database, Descriptors(tmp_path / f"{count}_1.h5") as queries:
            found = found_by(database, queries, 5)
            context = context_of(database, queries, found_by)
            searching = most_held(lambda d=database, q=queries: found_by(d, q, 5))
            held[count] = searching, most_held(lambda p=found, c=context: QueryExpansion()(p, c))
    # 512 images and 256 queries more, which would be 8 and 4 MB of float32: only predictions and the like.
    for less, more in zip(*held.values(), strict=True):
        assert more - less < EACH * (512 + 256), held


def pictures(folder: Path, count: int) -> Path:
    """Make names of `count` images, all of them one file."""
    folder.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(folder.parent / "one.jpg")
    for number in range(count):
        os.link(folder.parent / "one.jpg", folder / f"@{500_000 + 7 * number:010.2f}@4000000.00@.jpg")
    return folder


class Patches(Backbone):
    """A convolution of 16 x 16 pixels."""

    out_channels = 256

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, self.out_channels, 16, 16)

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images)


def test_describing_holds_no_more_for_more_images(tmp_path: Path) -> None:
    network = Network(Patches(), NetVLAD(256, netvlad_clusters=64), {"backbone": "patches"})
    assert network.descriptors_dim == 16_384
    held = []
    for count in (128, 512):
        table = read_folder(pictures(tmp_path / str(count) / "database", count))
        path = tmp_path / f"{count}.h5"
        held.append(most_held(lambda t=table, p=path: extract(network, t, p, Inference((32, 32), 16)).close()))
        with Descriptors(path) as found:
            assert len(found) == count
        path.unlink()
    # 384 images more, which would be 25 MB.
    assert held[1] - held[0] < EACH * 384, held


class Drawn:
    """Forty keypoints of an image, drawn at random."""

    name, dim, binary = "drawn", 64, False

    def __init__(self, keypoints: int, runtime: Runtime) -> None:
        self.random = np.random.default_rng(0)

    def __call__(self, images: Tensor) -> list[LocalFeatures]:
        points = self.random.uniform(0, 31, (40, 2)).astype(np.float32)
        vectors = self.random.normal(size=(40, 64)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return [LocalFeatures(points, vectors, (32, 32)) for _ in images]


def test_a_reranker_with_local_features_holds_no_more_for_more_images(tmp_path: Path) -> None:
    held = {}
    for count in (128, 384):
        root = tmp_path / str(count)
        database, queries = (
            read_folder(pictures(root / kind / kind, number)) for kind, number in (("d", count), ("q", count // 2))
        )
        indices = np.random.default_rng(0).integers(0, count, (count // 2, 4))
        before = Predictions(indices, np.tile(np.linspace(0.1, 0.4, 4, dtype=np.float32), (count // 2, 1)))
        nothing: Any = None
        options = RerankOptions(
            rerank=("local",), local_features=(f"{__name__}:Drawn",), local_iterations=10, rerank_topk=4
        )
        split = Split("test", root, database, queries)
        with write_descriptors(root / "d.h5", torch.zeros(count, 4), "d") as one:
            context = RerankContext(split, one, one, nothing, options, Inference((32, 32)), root / "kept")
            # Found and stored, and once more of what is stored.
            held[count] = [most_held(lambda p=before, c=context: LocalReranker()(p, c)) for _ in range(2)]
    # 256 images and 128 queries more: 2 MB of features.
    for less, more in zip(*held.values(), strict=True):
        assert more - less < EACH * (256 + 128), held
