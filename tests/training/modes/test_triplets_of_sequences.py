"""Triplets of sequences: the same mode, miners and losses, with a sequence where an image was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from recipes import recipe_with
from walks import write_walk

from vgbench.data import DataOptions, Split
from vgbench.data.augment import AugmentOptions
from vgbench.data.sequences import SequenceRules
from vgbench.data.splits import read_checked_split
from vgbench.models import build_network
from vgbench.models.sequences.network import SequenceNetwork, with_sequences
from vgbench.retrieval.extraction.extract import describe_rows
from vgbench.runtime import Inference, Runtime
from vgbench.training import Checkpoints, EpochRecalls, MetricsLogger, Run, TrainOptions, train
from vgbench.training.losses.triplet import TripletLoss
from vgbench.training.modes.triplets import TripletMode

SIZE = (32, 32)
RULES = SequenceRules(3)
OPTIONS = TrainOptions(
    train_batch_size=2, cache_refresh_rate=4, queries_per_epoch=4, neg_samples_num=6, negs_num_per_query=2,
    epochs_num=2, lr=1e-4, mining="full",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataOptions:
    folder = tmp_path_factory.mktemp("datasets")
    write_walk(folder / "street", ("train",))
    return DataOptions(datasets_folder=folder, dataset_name="street", resize=SIZE, num_workers=0)


@pytest.fixture(scope="module")
def split(data: DataOptions) -> Split:
    assert data.datasets_folder is not None
    return read_checked_split(data, data.datasets_folder / data.dataset_name, "train", rules=RULES)


def make_network(seed: int = 0, name: str = "seqnet") -> SequenceNetwork:
    torch.manual_seed(seed)
    own = {"seqnet_width": 2} if name == "seqnet" else {}
    return with_sequences(build_network("resnet18conv4", "gem", pretrain="none"), name, 3, **own)


def make_mode(split, data, mode=TripletMode, **changes):
    recipe = recipe_with(data, training=changes.get("options", OPTIONS), rules=RULES)
    return mode(split, dataclasses.replace(recipe, augmentation=changes.get("augmentation", AugmentOptions())))


def test_triplets_are_of_sequences(split: Split, data: DataOptions) -> None:
    network, mode = make_network(), make_mode(split, data)
    batches = list(mode.round(network, 0, 0))
    queries = describe_rows(network, split.queries, np.arange(len(split.queries)), Inference(SIZE, 4))
    database = describe_rows(network, split.database, np.arange(len(split.database)), Inference(SIZE, 4))
    mined = make_mode(split, data).miner.round(lambda t, r: mode._describe(network, t, r), 0, 0, 4).triplets
    for query, positive, negatives in zip(mined.query, mined.positive, mined.negatives, strict=True):
        frames = split.queries.frames.utm[split.queries.members[query], None]
        apart = np.linalg.norm(frames - split.database.frames.utm, axis=2).min(0)  # of each frame of the database
        nearest = apart[split.database.members].min(1)
        distances = torch.cdist(queries[None, query], database)[0]
        assert nearest[positive] <= 10 and (nearest[negatives] > 25).all()
        assert distances[positive] <= distances[np.flatnonzero(nearest <= 10)].min() + 1e-5
    batch = batches[0]
    assert batch.length == 3 and batch.units.shape[1:] == (3, 3, *SIZE)
    assert batch.is_query.sum() == 3 * len(set(batch.query.tolist()))
    network.eval()
    with torch.no_grad():
        whole = network(batch.units)
        expected = sum(
            TripletLoss(0.1)(whole[q][None], whole[p][None], whole[n][None])
            for q, p, n in zip(batch.query, batch.positive, batch.negatives, strict=True)
        )
        loss = mode.loss(network, batch, torch.Generator())
    assert float(loss) == pytest.approx(float(expected) / 4, abs=1e-6)


def test_sequences_are_mirrored_whole(split: Split, data: DataOptions) -> None:
    mode = make_mode(split, data, augmentation=AugmentOptions(horizontal_flip=True))
    batch = next(iter(mode.round(make_network(), 0, 0)))
    seen = set()
    for seed in range(6):
        changed = mode.augment.augment_triplets(batch, torch.Generator().manual_seed(seed))
        assert changed.units.shape[1:] == batch.units.shape[1:] and changed.is_query.shape == changed.images.shape[:1]
        for here, there in ((changed.query, batch.query), (changed.positive, batch.positive)):
            for one, other in zip(here.tolist(), there.tolist(), strict=True):
                was = batch.units[other]
                same, mirrored = torch.equal(changed.units[one], was), torch.equal(changed.units[one], was.flip(-1))
                assert same != mirrored
                seen.add(mirrored)
    assert seen == {True, False}


class Killed(BaseException):
    pass


class Faulty(TripletMode):
    """Is killed at the second step of the second round."""

    steps = 0

    def loss(self, forward, batch, generator):
        self.steps += 1
        if self.steps == 4:
            raise Killed
        return super().loss(forward, batch, generator)


def run(folder: Path, split: Split, data: DataOptions, resume: bool = False, mode=TripletMode) -> SequenceNetwork:
    folder.mkdir(exist_ok=True)
    network = make_network(1 if resume else 0)
    checkpoints = Checkpoints(folder, network.config, {})
    augmentation = AugmentOptions(brightness=0.3, horizontal_flip=True)
    with MetricsLogger(folder, tensorboard=False) as watch:
        train(
            network,
            make_mode(split, data, mode=mode, augmentation=augmentation),
            lambda network, epoch: EpochRecalls({5: float(epoch)}),
            OPTIONS,
            Runtime(),
            Run(checkpoints, watch, 0, checkpoints.last if resume else None),
        )
    return network


def test_killed_and_resumed_ends_bit_for_bit_the_same(tmp_path: Path, split: Split, data: DataOptions) -> None:
    whole = run(tmp_path / "whole", split, data).state_dict()
    with pytest.raises(Killed):
        run(tmp_path / "cut", split, data, mode=Faulty)
    resumed = run(tmp_path / "cut", split, data, resume=True).state_dict()
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())
    start = make_network().state_dict()
    assert not torch.equal(whole["sequence.conv.weight"], start["sequence.conv.weight"])


def test_training_lowers_the_loss(split: Split, data: DataOptions) -> None:
    network = make_network()
    mode = make_mode(split, data)
    batch = next(iter(mode.round(network, 0, 0)))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = mode.loss(network.eval(), batch, torch.Generator())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0 and losses[-1] < 0.7 * losses[0]
