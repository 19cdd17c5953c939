from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vgbench.data import loader
from vgbench.data.decode import decode_image
from vgbench.data.loader import decode_batch, decoding_processes, image_loader, worker_count
from vgbench.data.options import DataOptions
from vgbench.data.protocol import read_folder, read_split
from vgbench.errors import UserError


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_come_in_the_order_asked_for(dataset: Path, num_workers: int) -> None:
    table = read_split(dataset, "test").database
    rows = np.array([7, 3, 3, 11, 0, 5, 2])
    batched = image_loader(table, rows, size=(12, 16), batch_size=3, num_workers=num_workers)
    assert isinstance(batched, DataLoader) and len(batched) == 3
    for _ in range(2):  # a loader can be used again
        batches = list(batched)
        assert [len(images) for images, _ in batches] == [3, 3, 1]
        assert torch.cat([r for _, r in batches]).tolist() == rows.tolist()
        images = torch.cat([i for i, _ in batches])
        assert images.dtype == torch.uint8 and batches[0][1].dtype == torch.int64
        assert torch.equal(images, torch.stack([decode_image(table.path(int(row)), (12, 16)) for row in rows]))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_one_line_from_any_process(dataset: Path, num_workers: int) -> None:
    table = read_split(dataset, "test").database
    table.path(9).write_bytes(b"nothing")
    batched = image_loader(table, np.arange(12), size=(12, 16), batch_size=2, num_workers=num_workers)
    batches = iter(batched)
    assert [next(batches)[1].tolist() for _ in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    with pytest.raises(UserError) as raised:
        next(batches)
    message = str(raised.value)
    assert message.startswith(str(table.path(9))) and "Traceback" not in message and "\n" not in message


def test_native_sizes_must_agree_within_a_batch(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    for i in range(3):
        write_image(tmp_path / f"@{i}@0@.png", 20 + 10 * (i == 2), 30)
    table = read_folder(tmp_path)
    alone = [images.shape for images, _ in image_loader(table, np.arange(3), size=None, batch_size=1, num_workers=0)]
    assert alone == [(1, 3, 20, 30), (1, 3, 20, 30), (1, 3, 30, 30)]
    together = image_loader(table, np.arange(3), size=None, batch_size=2, num_workers=0)
    assert [len(images) for images, _ in together] == [2, 1]
    with pytest.raises(UserError, match="20x30, 30x30"):
        list(image_loader(table, np.arange(3), size=None, batch_size=3, num_workers=0))


def test_no_rows_no_batches(dataset: Path) -> None:
    table = read_split(dataset, "test").database
    assert list(image_loader(table, np.empty(0, np.int64), size=(8, 8), batch_size=4, num_workers=4)) == []


def test_workers_are_no_more_than_cores_or_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert [worker_count(n, t) for n, t in ((8, 100), (3, 100), (8, 2), (0, 9), (8, 0))] == [4, 3, 2, 0, 0]


@pytest.mark.parametrize(("cores", "gpu", "expected"), [(1, False, 0), (2, False, 0), (7, False, 0), (8, False, 2),
                                                        (64, False, 8), (2, True, 8), (64, True, 8)])  # fmt: skip
def test_processes_by_cores_where_nobody_says(
    monkeypatch: pytest.MonkeyPatch, cores: int, gpu: bool, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert decoding_processes() == expected == DataOptions().workers
    assert [DataOptions(num_workers=n).workers for n in (0, 1, 5)] == [0, 1, 5]  # what is said is kept
    assert (DataOptions().checkers, DataOptions(num_workers=0).checkers) == (8, 0)


@pytest.mark.parametrize("size", [(12, 16), None])
def test_threads_decode_as_one_does(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int] | None
) -> None:
    table = read_split(dataset, "test").database
    rows = np.arange(12).repeat(3)
    seen = set()
    real = loader.read_pixels

    def noted(path: Path, *args: object, **keywords: object) -> torch.Tensor:
        seen.add(threading.current_thread())
        return real(path, *args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "read_pixels", noted)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(3)), raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    filters = list(warnings.filters)
    images = decode_batch(table, rows, size)
    assert seen and threading.main_thread() not in seen and warnings.filters == filters
    assert torch.equal(images, torch.stack([decode_image(table.path(int(row)), size) for row in rows]))
    table.path(4).write_bytes(b"nothing")
    with pytest.raises(UserError, match=re.escape(str(table.path(4)))):
        decode_batch(table, rows, size)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    seen.clear()
    assert torch.equal(decode_batch(table, rows[:6], size), images[:6]) and not seen


def test_iterating_leaves_the_global_generator_alone(dataset: Path) -> None:
    table = read_split(dataset, "test").database
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(image_loader(table, np.arange(4), size=(8, 8), batch_size=2, num_workers=0))
    assert torch.equal(torch.get_rng_state(), before)
