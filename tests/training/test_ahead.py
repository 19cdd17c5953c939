"""Batches that are copied ahead come in order, and no copy or step begins before what it must wait for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_training import TinyBatch

from vgbench.training.ahead import ahead

CUDA = torch.device("cuda", 0)


def test_elsewhere_batches_stay_as_they_are() -> None:
    batches = [TinyBatch(torch.tensor([number])) for number in range(3)]
    assert all(one is other for one, other in zip(ahead(batches, torch.device("cpu")), batches, strict=True))


class FakeStream:
    """A stream that writes down what it was asked for."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: FakeStream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")

    def record_event(self) -> str:
        return next(line for line in reversed(self.log) if line.startswith("copy"))


class FakeBatch:
    def __init__(self, number: int, log: list[str]) -> None:
        self.number, self.log = number, log

    def to(self, device: torch.device) -> FakeBatch:
        assert device == CUDA
        self.log.append(f"copy {self.number}")
        return self


def test_the_next_batch_is_copied_before_the_step_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    main = FakeStream("main", log)

    @contextlib.contextmanager
    def within(stream: FakeStream) -> Iterator[None]:
        assert stream.name == "beside"
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream("beside", log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", within)
    batches: Any = (FakeBatch(number, log) for number in range(3))
    for batch in ahead(batches, CUDA):
        log.append(f"step {batch.number}")  # noqa: PERF401  (others append in between)
    assert log == [
        "beside waits for main", "copy 0", "beside waits for main", "copy 1", "main waits for copy 0", "step 0",
        "beside waits for main", "copy 2", "main waits for copy 1", "step 1", "main waits for copy 2", "step 2",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1])
def test_few_batches_are_all_there(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream("beside", log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream("main", log))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    batches: Any = [FakeBatch(number, log) for number in range(count)]
    assert [batch.number for batch in ahead(batches, CUDA)] == list(range(count))


@pytest.mark.gpu
def test_on_a_gpu_every_batch_arrives_whole() -> None:
    batches = (TinyBatch(torch.full((64, 3, 256, 256), number, dtype=torch.uint8).pin_memory()) for number in range(20))
    sums = [batch.images.sum(dtype=torch.int64) for batch in ahead(batches, CUDA)]
    size = 64 * 3 * 256 * 256
    assert [int(one) for one in sums] == [number * size for number in range(20)]
