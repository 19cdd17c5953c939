"""Triplet training on image files: the whole package together with data, models and retrieval."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recipes import recipe_with

from vgbench.data import DataOptions, format_name, parse_name, read_split
from vgbench.data.augment import AugmentOptions
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.weights import read_checkpoint
from vgbench.retrieval.extraction.extract import describe_rows
from vgbench.runtime import Inference, Runtime
from vgbench.training import Checkpoints, EpochRecalls, MetricsLogger, Run, TrainOptions, build_optimizer, train
from vgbench.training.losses.triplet import TripletLoss
from vgbench.training.modes.triplets import TripletMode

SIZE = (32, 32)
OPTIONS = TrainOptions(
    train_batch_size=2,
    cache_refresh_rate=5,
    queries_per_epoch=8,
    neg_samples_num=8,
    negs_num_per_query=3,
    epochs_num=2,
    lr=1e-4,
    mining="full",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A street of 24 database images, 4 m apart in pairs, and 10 queries, two of them far from everything."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("datasets")
    places = rng.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
    for kind, total in (("database", 24), ("queries", 10)):
        target = folder / "street" / "images" / "train" / kind
        target.mkdir(parents=True)
        for row in range(total):
            place = row // 2 if kind == "database" else row
            east = 500000.0 + 40 * place + 4 * (row % 2) + (5000 if kind == "queries" and row >= 8 else 0)
            name = format_name(parse_name(f"@{east:010.2f}@4000000.00@@@@@@@@@@@@@.jpg"))
            noise = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(places[place].repeat(8, 0).repeat(8, 1) // 2 + noise).save(target / name)
    return DataOptions(datasets_folder=folder, dataset_name="street", resize=SIZE, num_workers=0)


@pytest.fixture(scope="module")
def split(data):
    return read_split(data.datasets_folder / data.dataset_name, "train")


def make_network(seed=0):
    torch.manual_seed(seed)
    return build_network("resnet18conv4", "gem", pretrain="none")


def make_mode(split, data, options=OPTIONS, augmentation=None, mode=TripletMode):
    return mode(split, recipe_with(data, training=options, augmentation=augmentation or AugmentOptions()))


def test_a_round_is_what_the_network_says(split, data):
    network = make_network()
    mode = make_mode(split, data)
    assert "2 without a positive" in mode.summary() and mode.rounds_per_epoch == 2
    network.train()
    batches = list(mode.round(network, 0, 0))
    assert network.training and len(batches) == 2 and all(len(batch) == 2 for batch in batches)  # 5 // 2
    inference = Inference(SIZE, 4)
    database = describe_rows(network, split.database, np.arange(24), inference)
    queries = describe_rows(network, split.queries, np.arange(10), inference)
    mined = make_mode(split, data).miner.round(mode_describe(mode, network), 0, 0, 5).triplets
    for query, positive, negatives in zip(mined.query, mined.positive, mined.negatives, strict=True):
        distances = torch.cdist(queries[None, query], database)[0]
        near = np.linalg.norm(split.database.utm - split.queries.utm[query], axis=1)
        hard = np.flatnonzero(near <= 10)
        assert distances[positive] <= distances[hard].min() + 1e-6
        assert (near[negatives] > 25).all()


def mode_describe(mode, network):
    return lambda table, rows: mode._describe(network, table, rows)


def test_the_loss_is_the_mean_over_queries_and_negatives(split, data):
    network = make_network().eval()
    mode = make_mode(split, data)
    batch = next(iter(mode.round(network, 0, 0)))
    with torch.no_grad():
        loss = mode.loss(network, batch, torch.Generator())
        whole = network(batch.images)
        expected = sum(
            TripletLoss(0.1)(whole[q][None], whole[p][None], whole[n][None])
            for q, p, n in zip(batch.query, batch.positive, batch.negatives, strict=True)
        )
    assert float(loss) == pytest.approx(float(expected) / (2 * 3), abs=1e-7)


def test_augmentation_reaches_the_network_and_follows_the_generator(split, data):
    network = make_network()
    mode = make_mode(split, data, augmentation=AugmentOptions(brightness=0.5))
    batch = next(iter(mode.round(network, 0, 0)))
    seen = []

    def forward(images):
        seen.append(images)
        return torch.nn.functional.normalize(images.float().mean((2, 3)), dim=1)

    for seed in (1, 1, 2):
        mode.loss(forward, batch, torch.Generator().manual_seed(seed))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    changed = (seen[0] != batch.images).flatten(1).any(1)
    assert torch.equal(changed, batch.is_query)


def test_a_round_smaller_than_a_batch_is_one_batch(split, data):
    mode = make_mode(split, data, dataclasses.replace(OPTIONS, train_batch_size=50))
    batches = list(mode.round(make_network(), 0, 0))
    assert [len(batch) for batch in batches] == [5]


def test_resuming_with_another_miner_is_refused(split, data):
    state = make_mode(split, data).state_dict()
    with pytest.raises(UserError, match=r"--mining partial: the interrupted run mined full"):
        make_mode(split, data, dataclasses.replace(OPTIONS, mining="partial")).load_state_dict(state)


class Killed(BaseException):
    pass


class Faulty(TripletMode):
    """Is killed at the second step of a round."""

    fatal = (1, 1)

    def round(self, network, epoch, index):
        self.at, self.step = (epoch, index), 0
        return super().round(network, epoch, index)

    def loss(self, forward, batch, generator):
        self.step += 1
        if self.at == self.fatal and self.step == 1:
            raise Killed
        return super().loss(forward, batch, generator)


def run(folder: Path, split, data, resume=False, mode=TripletMode, augmentation=None):
    folder.mkdir(exist_ok=True)
    network = make_network(1 if resume else 0)
    checkpoints = Checkpoints(folder, network.config, {})
    with MetricsLogger(folder, tensorboard=False) as watch:
        train(
            network,
            make_mode(split, data, augmentation=augmentation, mode=mode),
            lambda network, epoch: EpochRecalls({5: float(epoch)}),
            OPTIONS,
            Runtime(),
            Run(checkpoints, watch, 0, checkpoints.last if resume else None),
        )
    return network


def test_killed_and_resumed_ends_bit_for_bit_the_same(tmp_path, split, data):
    augmentation = AugmentOptions(brightness=0.3, horizontal_flip=True)
    whole = run(tmp_path / "whole", split, data, augmentation=augmentation).state_dict()
    with pytest.raises(Killed):
        run(tmp_path / "cut", split, data, mode=Faulty, augmentation=augmentation)
    workers = dataclasses.replace(data, num_workers=1)  # who decodes makes no difference either
    resumed = run(tmp_path / "cut", split, workers, resume=True, augmentation=augmentation).state_dict()
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())
    start = make_network().state_dict()
    trained = [key for key in whole if not torch.equal(whole[key], start[key])]
    assert "aggregation.1.p" in trained
    stored = read_checkpoint(tmp_path / "cut" / "last_model.pth")["mode_state"]["miner"]["previous_negatives"]
    assert stored.shape == (10, 3) and (stored[8:] == -1).all() and (stored[:8] >= 0).any()


@pytest.mark.parametrize(("device", "order"), [("cuda", "q d q d"), ("cpu", "q q d d")])
def test_beside_a_gpu_the_database_is_decoded_while_queries_are_described(split, data, monkeypatch, device, order):
    log, network = [], make_network()

    def describing(network, table, rows, inference, progress):
        size = -(-len(rows) // 2)
        for part in (rows[:size], rows[size:]):
            log.append(table.root.name[0])
            vectors = torch.nn.functional.one_hot(torch.from_numpy(part) % 7, 7).float()
            yield torch.from_numpy(part), vectors

    def mined(on):
        runtime = Runtime(torch.device(on))
        mode = TripletMode(split, recipe_with(data, runtime, training=dataclasses.replace(OPTIONS, mining="partial")))
        return mode.miner.round(functools.partial(mode._describe, network), 0, 0, 5).triplets

    monkeypatch.setattr("vgbench.training.modes.triplets.describe", describing)
    found = mined(device)
    assert " ".join(log) == order
    expected = mined("cpu")
    assert np.array_equal(found.negatives, expected.negatives) and np.array_equal(found.positive, expected.positive)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("amp", [None, torch.bfloat16, torch.float16])
def test_trains_on_a_gpu(tmp_path, split, data, amp):
    network = make_network()
    before = network.aggregation[1].p.item()
    runtime = Runtime(torch.device("cuda"), amp, channels_last=True)
    mode = TripletMode(split, recipe_with(data, runtime, training=OPTIONS))
    checkpoints = Checkpoints(tmp_path, network.config, {})
    validate = lambda network, epoch: EpochRecalls({5: float(epoch)})  # noqa: E731
    with MetricsLogger(tmp_path, tensorboard=False) as watch:
        result = train(network, mode, validate, OPTIONS, runtime, Run(checkpoints, watch, 0))
    assert result.epochs == 2 and network.aggregation[1].p.item() != before
    content = read_checkpoint(checkpoints.last)
    assert bool(content["scaler"]) == (amp == torch.float16)
    assert build_optimizer(network, OPTIONS).param_groups[0]["params"][0].is_cuda
