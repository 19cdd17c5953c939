"""Sequences are described as one by one, and each frame is described once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vgbench.data.decode import decode_image
from vgbench.data.protocol import read_folder
from vgbench.data.sequences import SequenceRules, SequenceTable, in_sequences
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.sequences.network import SequenceNetwork, with_sequences
from vgbench.retrieval.extraction import windows
from vgbench.retrieval.extraction.extract import describe, describe_rows, extract
from vgbench.runtime import Inference, Runtime

SIZE = (32, 32)
INFERENCE = Inference(SIZE, 4, 0, Runtime())


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> SequenceTable:
    """Two walks of 7 and 6 frames."""
    folder = tmp_path_factory.mktemp("walk") / "database"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(13):
        east = 500000 + 10 * number + (1000 if number > 6 else 0)
        picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        picture.save(folder / f"@{east:010.2f}@4000000.00@33@S@@@{number:03d}@@@@@@@@.png")
    return in_sequences(read_folder(folder), SequenceRules(3))


def network_of(name: str) -> SequenceNetwork:
    torch.manual_seed(0)
    aggregation = "netvlad" if name == "seqvlad" else "gem"
    return with_sequences(build_network("resnet18conv4", aggregation, "none"), name, 3)


@pytest.mark.parametrize("name", ["mean", "concat", "seqvlad"])
@pytest.mark.parametrize("order", ["ascending", "shuffled"])
def test_as_one_by_one(walk: SequenceTable, name: str, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = network_of(name), []
    loader = windows.image_loader

    def counting(table, rows, **options):
        seen.extend(rows.tolist())
        return loader(table, rows, **options)

    monkeypatch.setattr(windows, "image_loader", counting)
    rows = np.arange(9, dtype=np.int64)
    if order == "shuffled":
        rows = np.random.default_rng(1).permutation(9)[:7].astype(np.int64)
    found = list(describe(network, walk, rows, INFERENCE))
    assert torch.equal(torch.cat([batch for batch, _ in found]), torch.from_numpy(rows))
    assert sorted(seen) == sorted(set(walk.members[rows].ravel().tolist()))  # each frame once
    pictures = [[decode_image(walk.frames.path(int(f)), SIZE) for f in walk.members[row]] for row in rows]
    with torch.no_grad():
        expected = network.eval()(torch.stack([torch.stack(one) for one in pictures]))
    assert torch.allclose(torch.cat([batch for _, batch in found]), expected, atol=1e-4)


def test_few_frames_are_held(walk: SequenceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    most, aggregate = [], windows._aggregate

    def watching(sequence, held, chunk):
        most.append(len(held))
        return aggregate(sequence, held, chunk)

    monkeypatch.setattr(windows, "_aggregate", watching)
    inference = Inference(SIZE, 1, 0, Runtime())
    assert describe_rows(network_of("mean"), walk, np.arange(9), inference).shape == (9, 256)
    assert max(most) == 3


def test_images_and_sequences_are_not_mistaken(walk: SequenceTable, tmp_path: Path) -> None:
    images, network = walk.frames, network_of("mean")
    with pytest.raises(UserError, match=r"these are images.*Expected"):
        describe_rows(network, images, np.arange(2), INFERENCE)
    with pytest.raises(UserError, match=r"describes images, those of .* are of 3 frames.*Expected --seq_length"):
        describe_rows(network.of_frames, walk, np.arange(2), INFERENCE)
    longer = in_sequences(images, SequenceRules(4))
    with pytest.raises(UserError, match=r"describes sequences of 3, .*of 4 frames"):
        describe_rows(network, longer, np.arange(2), INFERENCE)
    with extract(network, walk, tmp_path / "one.h5", INFERENCE) as stored:
        assert stored.shape == (9, 256)
    other = walk.select(np.arange(8))
    assert other.fingerprint() != walk.fingerprint()
