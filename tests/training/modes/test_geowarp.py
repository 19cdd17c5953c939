"""GeoWarp learns where views overlap, resumes to the same bits, and re-ranks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import complaint, of, run_here
from recipes import recipe_of

from vgbench.data.augment import AugmentOptions
from vgbench.errors import UserError
from vgbench.models import Network, build_network
from vgbench.models.geowarp import WHOLE, GeoWarp, attach, random_views, warp
from vgbench.models.weights import read_checkpoint
from vgbench.randomness import torch_stream
from vgbench.training import Checkpoints, EpochRecalls, MetricsLogger, Run, TrainOptions, train
from vgbench.training.modes.geowarp_options import GeowarpOptions
from vgbench.training.modes.table import Recipe, build_mode

OPTIONS = TrainOptions(
    train_mode="geowarp", epochs_num=2, queries_per_epoch=4, cache_refresh_rate=2, train_batch_size=2, lr_geowarp=1e-3,
    patience=9,
)  # fmt: skip


def network_of(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_network("resnet18conv4", "gem", pretrain="none")


def geowarp_recipe(root: Path, network: Any, **changes: Any) -> Recipe:
    recipe = recipe_of(root, "geowarp", training=OPTIONS, network=network, augmentation=AugmentOptions(brightness=0.1))
    return dataclasses.replace(recipe, **changes)


def views_of_fields(count: int, place: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Maps of two views of smooth random fields, and what they share."""
    generator = torch_stream(0, "fields", place)
    fields = torch.nn.functional.interpolate(
        torch.randn(count, 16, 12, 12, generator=generator), (48, 48), mode="bicubic"
    )
    views, right = random_views(count, 0.6, generator)
    return warp(fields, views[:, 0], (15, 15)), warp(fields, views[:, 1], (15, 15)), right


def learn_fields(steps: int) -> tuple[float, float, float]:
    """Mean squared error on unseen views: of the trained one, of the identity, of the best constant answer."""
    torch.manual_seed(0)
    geowarp = GeoWarp()
    optimizer = torch.optim.Adam(geowarp.parameters(), lr=1e-3)
    for step in range(steps):
        one, other, right = views_of_fields(16, step)
        loss = (geowarp(one, other) - right).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    one, other, right = views_of_fields(64, 10**6)
    with torch.no_grad():
        error = float((geowarp.eval().both_ways(one, other) - right).square().mean())
    identity, constant = float((torch.tensor(WHOLE) - right).square().mean()), float(right.var(0).mean())
    print(f"after {steps} steps: {error:.4f}; the identity {identity:.4f}, the best constant {constant:.4f}")
    return error, identity, constant


def test_it_learns_where_two_views_overlap() -> None:
    error, identity, constant = learn_fields(30)
    assert error < identity / 2 and error < 0.85 * constant


@pytest.mark.slow
def test_it_learns_it_well() -> None:
    error, identity, _ = learn_fields(400)
    assert error < identity / 4


def run(root: Path, folder: Path, network: Network, resume: Path | None = None, kill: tuple[int, int] | None = None):
    """Train in a folder; raises KeyboardInterrupt at the round `kill`."""
    recipe = geowarp_recipe(root, network)
    mode = build_mode(recipe)
    rounds = mode.round

    def interrupted(network: Network, epoch: int, index: int) -> Any:
        if (epoch, index) == kill:
            raise KeyboardInterrupt
        return rounds(network, epoch, index)

    mode.round = interrupted  # type: ignore[method-assign]
    folder.mkdir(exist_ok=True)
    with MetricsLogger(folder, tensorboard=kill is None and resume is None) as watch:
        train(
            network, mode, lambda *_: EpochRecalls({1: 1.0, 5: 1.0}), recipe.training, recipe.inference.runtime,
            Run(Checkpoints(folder, network.config, {}), watch, 0, resume),
        )  # fmt: skip
    return mode


def test_an_interrupted_run_ends_as_another(tiny_dataset: Path, tmp_path: Path) -> None:
    start = network_of().state_dict()
    whole, again = network_of(), network_of(seed=9)
    run(tiny_dataset, tmp_path / "whole", whole)
    interrupted = network_of()
    with pytest.raises(KeyboardInterrupt):
        run(tiny_dataset, tmp_path / "run", interrupted, kill=(1, 1))
    run(tiny_dataset, tmp_path / "run", again, resume=tmp_path / "run" / "last_model.pth")
    one, other = whole.state_dict(), again.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    # The network itself has not moved, to the running statistics; its GeoWarp has.
    assert all(torch.equal(one[key], value) for key, value in start.items())
    fresh = GeoWarp().state_dict()
    assert not torch.equal(one["geowarp.corners.weight"], fresh["corners.weight"])
    assert read_checkpoint(tmp_path / "run" / "best_model.pth")["network_config"]["geowarp"] is True


def test_positives_are_looked_for_once(tiny_dataset: Path, tmp_path: Path) -> None:
    network = network_of()
    mode = build_mode(geowarp_recipe(tiny_dataset, network))
    split = mode.split
    seen: list[int] = []
    original = mode._describe
    mode._describe = lambda net, table, rows: (seen.append(len(rows)), original(net, table, rows))[1]
    for number in range(8):
        mode.round(network, number // 2, number % 2)
        assert mode._mined.query.shape == (2,) and mode._mined.negatives.shape == (2, 0)
        for query, positive in zip(mode._mined.query, mode._mined.positive, strict=True):
            offset = split.queries.utm[query] - split.database.utm[positive]
            assert np.hypot(*offset) <= 10
    looked = len(seen)
    state = mode.state_dict()
    mode.round(network, 0, 0)
    assert len(seen) == looked  # every query of that round is known
    other = build_mode(geowarp_recipe(tiny_dataset, network_of()))
    other.load_state_dict(state)
    assert np.array_equal(other.pairs.known, mode.pairs.known)
    with pytest.raises(UserError, match="trained otherwise"):
        other.load_state_dict({"mining": "partial"})
    picture = mode.pictures()["pairs, whole and cut"]
    assert picture.dtype == torch.uint8 and picture.shape[0] == 3 and picture.float().std() > 10


@pytest.mark.parametrize("name", ["rand_perspective", "random_resized_crop", "random_rotation"])
def test_augmentation_that_moves_pixels_is_refused(tiny_dataset: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"--{name}: moves pixels"):
        build_mode(geowarp_recipe(tiny_dataset, network_of(), augmentation=AugmentOptions(**{name: 0.5})))


@pytest.mark.parametrize(
    "wrong", [{"geowarp_cut": 0.0}, {"geowarp_cut": 1.0}, {"geowarp_views_weight": -1.0},
              {"geowarp_views_weight": 0.0, "geowarp_consistency_weight": 0.0, "geowarp_features_weight": 0.0}],
)  # fmt: skip
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        GeowarpOptions(**wrong)


def test_every_loss_moves_only_geowarp(tiny_dataset: Path) -> None:
    for name in ("views", "consistency", "features"):
        weights = {f"geowarp_{other}_weight": float(other == name) for other in ("views", "consistency", "features")}
        network = network_of()
        mode = build_mode(geowarp_recipe(tiny_dataset, network, geowarp=GeowarpOptions(**weights)))
        torch.nn.init.normal_(attach(network).corners.weight, std=0.01)
        [batch] = mode.round(network, 0, 0)
        loss = mode.loss(lambda images: images, batch, torch.Generator())
        loss.backward()
        moved = {key.partition(".")[0] for key, value in network.named_parameters() if value.grad is not None}
        assert loss > 0 and moved == {"geowarp"}
        assert sum(float(value.grad.abs().sum()) for value in attach(network).parameters()) > 0


def test_through_the_scripts(trained: Path, pristine_dataset: Path, tmp_path: Path, call: Any) -> None:
    """Train GeoWarp on another run's network, re-rank with it, and refuse a network without."""
    small = [*of(pristine_dataset), "--num_workers=0", "--infer_batch_size=8"]
    folder, best = tmp_path / "warp", trained / "best_model.pth"
    training = [
        "--train_mode=geowarp", f"--start_from={best}", "--epochs_num=1", "--queries_per_epoch=4",
        "--cache_refresh_rate=4", "--train_batch_size=2", "--rerank_topk=3", f"--run_dir={folder}",
    ]  # fmt: skip
    assert run_here("train.py", *small, *training) == 0
    results = json.loads((folder / "results.json").read_text())
    assert [step["name"] for step in results["rerank"]] == ["geowarp"]
    before, after = read_checkpoint(best)["model_state_dict"], read_checkpoint(folder / "best_model.pth")
    assert all(torch.equal(after["model_state_dict"][key], value) for key, value in before.items())
    again = tmp_path / "again"
    checkpoint = f"--resume={folder / 'best_model.pth'}"
    status, _, err = call("eval.py", *small, checkpoint, "--rerank=geowarp", "--rerank_topk=3", f"--run_dir={again}")
    assert status == 0, err
    repeated = json.loads((again / "results.json").read_text())
    assert repeated["recalls"] == results["recalls"] and repeated["rerank"][0]["after"] == results["rerank"][0]["after"]
    assert "has no GeoWarp" in complaint(call("eval.py", *small, f"--resume={best}", "--rerank=geowarp"))
    wrong = call("train.py", *small, *training, "--aggregation=gem")
    assert "--aggregation netvlad" in complaint(wrong)
    assert "one of them" in complaint(call("train.py", *small, *training, f"--resume={best}"))
