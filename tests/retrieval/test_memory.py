"""What a test holds at a time does not grow with the images, at many dimensions too: counted in bytes allocated."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.extraction.writer import write_descriptors
from vgbench.retrieval.rerank.base import RerankContext
from vgbench.retrieval.rerank.expansion import QueryExpansion
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.searching.exact import search

DIM, BLOCK = 4096, 2**18


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
    return traced + int(np.cumsum(changes).max())


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
        assert more - less < 300 * (512 + 256), held
