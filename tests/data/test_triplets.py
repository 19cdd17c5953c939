from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import vgbench.data.triplets
from vgbench.data.decode import decode_image
from vgbench.data.loader import decode_images
from vgbench.data.protocol import read_split
from vgbench.data.triplets import Triplets, triplet_loader
from vgbench.errors import UserError

TRIPLETS = Triplets(
    np.array([4, 1, 1, 0, 2]),
    np.array([3, 7, 2, 9, 0]),
    np.array([[5, 3], [3, 9], [7, 8], [11, 1], [5, 6]]),
)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("drop_last", [True, False])
def test_each_index_leads_to_the_right_image(dataset: Path, num_workers: int, drop_last: bool) -> None:
    split = read_split(dataset, "test")
    loader = triplet_loader(split, TRIPLETS, size=(12, 16), batch_size=2, num_workers=num_workers, drop_last=drop_last)
    batches = list(loader)
    assert len(loader) == len(batches) == (2 if drop_last else 3)
    assert [len(batch) for batch in batches] == [2, 2, 1][: len(batches)]
    queries = [decode_image(split.queries.path(i), (12, 16)) for i in range(5)]
    database = [decode_image(split.database.path(i), (12, 16)) for i in range(12)]
    for t in range(4 if drop_last else 5):
        batch, row = batches[t // 2], t % 2
        assert torch.equal(batch.images[batch.query[row]], queries[TRIPLETS.query[t]])
        assert torch.equal(batch.images[batch.positive[row]], database[TRIPLETS.positive[t]])
        for n in range(2):
            assert torch.equal(batch.images[batch.negatives[row, n]], database[TRIPLETS.negatives[t, n]])
        assert batch.is_query[batch.query[row]] and not batch.is_query[batch.positive[row]]
        assert batch.images.dtype == torch.uint8 and batch.is_query.dtype == torch.bool
        assert batch.query.dtype == batch.positive.dtype == batch.negatives.dtype == torch.int64


def test_each_distinct_image_is_decoded_once(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read_split(dataset, "test")
    decoded: list[Path] = []
    monkeypatch.setattr(
        vgbench.data.triplets, "decode_images", lambda paths, size: decoded.extend(paths) or decode_images(paths, size)
    )
    (batch,) = triplet_loader(split, TRIPLETS, size=(12, 16), batch_size=5, num_workers=0)
    assert len(decoded) == len(set(decoded)) == len(batch.images) == 4 + 10
    assert batch.is_query.sum() == 4


def test_a_batch_moves_whole(dataset: Path) -> None:
    (batch,) = triplet_loader(read_split(dataset, "test"), TRIPLETS, size=(12, 16), batch_size=5, num_workers=0)
    moved = batch.to("meta")
    for name in ("images", "is_query", "query", "positive", "negatives"):
        assert getattr(moved, name).device.type == "meta" and getattr(moved, name).shape == getattr(batch, name).shape


@pytest.mark.gpu
def test_a_pinned_batch_reaches_the_gpu(dataset: Path) -> None:
    (batch,) = triplet_loader(read_split(dataset, "test"), TRIPLETS, size=(12, 16), batch_size=5, num_workers=2)
    assert batch.images.is_pinned() and batch.negatives.is_pinned()
    assert torch.equal(batch.to("cuda").images.cpu(), batch.images)


def test_an_unreadable_image_is_named(dataset: Path) -> None:
    split = read_split(dataset, "test")
    split.database.path(8).unlink()
    with pytest.raises(UserError, match="no such file"):
        list(triplet_loader(split, TRIPLETS, size=(12, 16), batch_size=2, num_workers=2))


def test_triplets_must_fit() -> None:
    with pytest.raises(ValueError, match="positive"):
        Triplets(np.zeros(2, np.int64), np.zeros(3, np.int64), np.zeros((2, 1), np.int64))
    with pytest.raises(ValueError, match="negatives"):
        Triplets(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64))
