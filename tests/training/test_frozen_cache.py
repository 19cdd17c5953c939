"""A training from kept features ends with the weights of one that runs its frozen layers at every step."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import on_ranks
from recipes import PLACES_OPTIONS, recipe_of
from torch import Tensor, nn

import vgbench.training.frozen_cache as frozen_cache
from vgbench import parallel
from vgbench.data.augment import AugmentOptions
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.frozen import frozen_part
from vgbench.models.network import Network
from vgbench.runtime import Runtime
from vgbench.training import Checkpoints, EpochRecalls, MetricsLogger, Run, TrainOptions, train
from vgbench.training.frozen_cache import CachedMode, FrozenCache
from vgbench.training.modes.table import build_mode

SIZE = (28, 28)


def network_of(backbone: str) -> Network:
    torch.manual_seed(0)
    return build_network(backbone, "gem", pretrain="none")


def options_of(mode: str, **changes: Any) -> TrainOptions:
    usual: dict[str, Any] = {
        "train_mode": mode, "epochs_num": 2, "lr": 1e-3, "freeze_bn": True, "queries_per_epoch": 8,
        "cache_refresh_rate": 4, "neg_samples_num": 10, "negs_num_per_query": 2, "train_batch_size": 2,
    }  # fmt: skip
    return TrainOptions(**(usual | changes))


def recall(network: nn.Module, epoch: int) -> EpochRecalls:
    return EpochRecalls({1: float(epoch), 5: float(epoch)})


def trained(
    network: Network,
    dataset: Path,
    folder: Path,
    options: TrainOptions,
    cache: bool,
    runtime: Runtime | None = None,
    validate: Callable[[nn.Module, int], EpochRecalls] = recall,
) -> dict[str, Tensor]:
    """Train; returns the weights."""
    recipe = recipe_of(dataset, options.train_mode, training=options, augmentation=AugmentOptions(), network=network)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, resize=SIZE))
    runtime = runtime or Runtime()
    inference = dataclasses.replace(recipe.inference, size=SIZE, runtime=runtime)
    runtime.prepare(network)
    mode: Any
    if cache:
        kept = FrozenCache(frozen_part(network, SIZE, runtime), folder / "frozen")
        read = dataclasses.replace(inference, read=kept.read)
        mode = CachedMode(build_mode(dataclasses.replace(recipe, inference=read)), kept, inference)
    else:
        mode = build_mode(dataclasses.replace(recipe, inference=inference))
    folder.mkdir(exist_ok=True)
    checkpoints = Checkpoints(folder, network.config, {})
    resume = checkpoints.last if checkpoints.last.exists() else None
    with MetricsLogger(folder, tensorboard=False) as watch:
        train(network, mode, validate, options, runtime, Run(checkpoints, watch, 0, resume))
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], start: dict[str, Tensor], share: float) -> None:
    """What training changed is the same, but for a share of it."""
    moved = torch.cat([(wanted[key] - start[key]).float().flatten() for key in wanted])
    other = torch.cat([(found[key] - start[key]).float().flatten() for key in wanted])
    assert moved.norm() > 0
    assert (other - moved).norm() <= share * moved.norm()


@pytest.mark.parametrize(
    ("backbone", "mode"),
    [
        ("resnet18conv4", "triplets"), ("resnet18conv4", "places"), ("efficientnet_lite0_s16", "places"),
        ("dinov2_vits14", "triplets"),
    ],
)  # fmt: skip
def test_the_weights_are_those_without_a_cache(backbone: str, mode: str, tiny_dataset: Path, tmp_path: Path) -> None:
    # SGD's steps are proportional to gradients; Adam's first ones are their signs, which rounding turns.
    options = options_of(mode, optim="sgd", epochs_num=1)
    start = {name: value.clone() for name, value in network_of(backbone).state_dict().items()}
    plain = trained(network_of(backbone), tiny_dataset, tmp_path / "plain", options, cache=False)
    cached = trained(network_of(backbone), tiny_dataset, tmp_path / "cached", options, cache=True)
    assert_near(cached, plain, start, 2e-3)
    frozen = [name for name, value in network_of(backbone).named_parameters() if not value.requires_grad]
    assert frozen and all(torch.equal(cached[name], start[name]) for name in frozen)


def test_batches_are_not_decoded_again(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vgbench.data import labelled, loader, triplets

    count = {"decoded": 0}
    original = loader.decode_images

    def counting(paths: Any, *words: Any, **keywords: Any) -> Tensor:
        count["decoded"] += len(paths)
        return original(paths, *words, **keywords)

    for module in (labelled, loader, triplets):
        monkeypatch.setattr(module, "decode_images", counting)
    trained(network_of("resnet18conv4"), tiny_dataset, tmp_path / "run", options_of("triplets"), cache=True)
    assert count["decoded"] == 8 * 5  # each image of the split once


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_ranks_share_the_images_and_end_with_the_weights_without_a_cache(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    from vgbench.data import loader
    from vgbench.retrieval.extraction.writer import DescriptorWriter

    def with_batch(share: int) -> TrainOptions:
        return options_of("triplets", optim="sgd", epochs_num=1, train_batch_size=2 // share)

    start = {name: value.clone() for name, value in network_of("resnet18conv4").state_dict().items()}
    plain = trained(network_of("resnet18conv4"), tiny_dataset, tmp_path / "plain", with_batch(1), cache=False)
    trained(network_of("resnet18conv4"), tiny_dataset, tmp_path / "one", with_batch(1), cache=True)
    decode, finish = loader.decode_image, DescriptorWriter._finish

    def noting(path: Path, *words: Any, **keywords: Any) -> Tensor:
        with (tmp_path / f"decoded{parallel.rank()}").open("a") as file:
            file.write(f"{path}\n")
        return decode(path, *words, **keywords)

    def late(self: DescriptorWriter) -> None:
        assert parallel.is_main()
        time.sleep(0.5)  # in which the other rank would find no file, or none that is whole
        finish(self)

    def work(rank: int) -> None:
        loader.decode_image, DescriptorWriter._finish = noting, late  # type: ignore[assignment, method-assign]
        trained(network_of("resnet18conv4"), tiny_dataset, tmp_path / "two", with_batch(2), cache=True)

    statuses, said = on_ranks(2, work, tmp_path)
    assert statuses == [0, 0], said
    two = torch.load(tmp_path / "two" / "last_model.pth", weights_only=True)["model_state_dict"]
    assert_near(two, plain, start, 2e-3)
    shares = [(tmp_path / f"decoded{rank}").read_text().splitlines() for rank in (0, 1)]
    assert len(shares[0]) + len(shares[1]) == len({*shares[0], *shares[1]}) == 8 * 5
    assert all(len(share) >= 8 for share in shares)
    written = {path.name: path.read_bytes() for path in (tmp_path / "one" / "frozen").glob("*.h5")}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "two" / "frozen").glob("*.h5")}


class StopError(Exception):
    """The end of a process."""


def stopping(network: nn.Module, epoch: int) -> EpochRecalls:
    if epoch == 0:
        raise StopError
    return recall(network, epoch)


@pytest.mark.parametrize("mode", ["triplets", "places"])
def test_an_interrupted_training_ends_with_the_same_bits(mode: str, tiny_dataset: Path, tmp_path: Path) -> None:
    options = options_of(mode, freeze_bn=False)
    whole = trained(network_of("resnet18conv4"), tiny_dataset, tmp_path / "whole", options, cache=True)
    with pytest.raises(StopError):
        trained(network_of("resnet18conv4"), tiny_dataset, tmp_path / "parts", options, cache=True, validate=stopping)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "frozen").iterdir()}
    other = network_of("resnet18conv4")
    with torch.no_grad():  # whatever a network begins with, a resumed one has its checkpoint's weights
        next(other.parameters()).add_(1)
    resumed = trained(other, tiny_dataset, tmp_path / "parts", options, cache=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "frozen").iterdir()} == before


def test_an_interrupted_computation_goes_on(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, runtime = network_of("resnet18conv4"), Runtime()
    recipe = recipe_of(tiny_dataset, "triplets")
    inference = dataclasses.replace(recipe.inference, size=SIZE)
    table = build_mode(dataclasses.replace(recipe, inference=inference)).images
    whole = FrozenCache(frozen_part(network, SIZE, runtime), tmp_path / "whole")
    whole.prepare(network, [table], inference)

    from vgbench.retrieval.extraction import writer

    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.0)
    parts = FrozenCache(whole.part, tmp_path / "parts")
    original = frozen_cache.Count

    def failing(*_: Any) -> Any:
        done = iter(range(100))

        def described(images: int) -> None:
            if next(done) == 2:
                raise StopError

        return original(described)

    monkeypatch.setattr(frozen_cache, "Count", failing)
    with pytest.raises(StopError):
        parts.prepare(network, [table], inference)
    assert list((tmp_path / "parts").glob("*.partial"))
    monkeypatch.setattr(frozen_cache, "Count", original)
    skipped: list[int] = []
    monkeypatch.setattr(frozen_cache, "Count", lambda one, two: original(one, skipped.append))
    parts.prepare(network, [table], inference)
    assert skipped and 0 < skipped[0] < len(table)
    (one,), (other,) = list((tmp_path / "whole").glob("*.h5")), list((tmp_path / "parts").glob("*.h5"))
    assert one.name == other.name and one.read_bytes() == other.read_bytes()


def test_half_precision_takes_half_the_bytes(tiny_dataset: Path, tmp_path: Path) -> None:
    runtime = Runtime(amp_dtype=torch.bfloat16, channels_last=True)
    options = options_of("places", epochs_num=1)
    network = network_of("resnet18conv4")
    weights = trained(network, tiny_dataset, tmp_path / "run", options, cache=True, runtime=runtime)
    assert all(value.isfinite().all() for value in weights.values())
    (file,) = (tmp_path / "run" / "frozen").glob("*.h5")
    images, features = 8 * 5, 128 * 4 * 4
    assert images * features * 2 < file.stat().st_size < images * features * 2 + 10_000


@pytest.fixture
def no_space(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    usage = type(shutil.disk_usage("/"))(10**12, 10**12 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    yield


def test_space_is_asked_for_beforehand(no_space: None, tiny_dataset: Path, tmp_path: Path) -> None:
    mode = build_mode(recipe_of(tiny_dataset, "places", places=PLACES_OPTIONS))
    cache = FrozenCache(frozen_part(network_of("resnet18conv4"), (64, 64), Runtime()), tmp_path)
    assert cache.bytes_of([mode.images]) == 40 * 128 * 8 * 8 * 4
    with pytest.raises(UserError, match=r"needs 1\.31 MB, .*--frozen_folder"):
        cache.check_space([mode.images])
