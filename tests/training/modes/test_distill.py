"""Distillation: the formulas again in float64, what a batch holds, a student that reaches its teacher, equal bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recipes import interrupted, network_of, recipe_of, trained
from torch import Tensor, nn

from vgbench.data.augment import AugmentOptions
from vgbench.errors import UserError
from vgbench.models import build_network
from vgbench.models.ensemble import build_ensemble
from vgbench.training import TrainOptions
from vgbench.training.modes.distill import DistillMode, descriptor_loss, similarity_loss
from vgbench.training.modes.distill_options import DistillOptions
from vgbench.training.modes.joint import JointMode
from vgbench.training.modes.table import build_mode


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A checkpoint of another network than the student."""
    return saved(network_of(7), tmp_path / "teacher")


def saved(network: Any, folder: Path) -> Path:
    folder.mkdir()
    torch.save({"model_state_dict": network.state_dict(), "network_config": network.config}, folder / "t.pth")
    return folder / "t.pth"


def mode_of(root: Path, teacher: Path | None, *, flip: bool = False, **options: Any) -> DistillMode:
    found = build_mode(recipe(root, teacher, flip=flip, **options))
    assert isinstance(found, DistillMode)
    return found


def recipe(root: Path, teacher: Path | None, *, flip: bool = False, **options: Any) -> Any:
    few = {"distill_batch_size": 8, **options}
    return recipe_of(
        root, "distill", distill=DistillOptions(distill_from=teacher, **few),
        augmentation=AugmentOptions(horizontal_flip=flip), training=TrainOptions(train_mode="distill", epochs_num=2),
    )  # fmt: skip


def eyes_of(teacher: Path, images: Tensor) -> Tensor:
    """What the teacher says of images uint8 [B,3,H,W]."""
    content = torch.load(teacher, weights_only=True)
    network = network_of()
    network.load_state_dict(content["model_state_dict"])
    with torch.no_grad():
        return F.normalize(network.eval()(images), dim=1)


# -- the formulas ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(1, 7), st.integers(1, 7), st.integers(0, 99))
def test_similarities_are_compared_pair_by_pair(count: int, dim: int, taught: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    s, t = rng.normal(size=(count, dim)), rng.normal(size=(count, taught))
    s, t = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (s, t))
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    expected = sum((float(s[i] @ s[j]) - float(t[i] @ t[j])) ** 2 for i, j in pairs) / len(pairs)
    assert float(similarity_loss(torch.from_numpy(s), torch.from_numpy(t))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("dim", "taught"), [(3, 5), (5, 3), (4, 4)])
def test_descriptors_are_compared_one_by_one(dim: int, taught: int) -> None:
    rng = np.random.default_rng(dim)
    s, t, p = rng.normal(size=(6, dim)), rng.normal(size=(6, taught)), rng.normal(size=(taught, dim))
    s, t = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (s, t))
    project = taught > dim
    expected = 0.0
    for one, said in zip(s, t, strict=True):
        wanted = said @ p if project else np.concatenate([said, np.zeros(dim - taught)])
        expected += float(np.sum((one - wanted / np.linalg.norm(wanted)) ** 2)) / len(s)
    tensors = torch.from_numpy(s), torch.from_numpy(t), torch.from_numpy(p) if project else None
    assert float(descriptor_loss(*tensors)) == pytest.approx(expected, abs=1e-12)


def test_the_projection_keeps_similarities_best(tiny_dataset: Path, teacher: Path) -> None:
    """As the first singular vectors do, which no others of as many dimensions surpass."""
    teaching = mode_of(tiny_dataset, teacher).teaching
    rows = teaching.of(np.arange(len(teaching))).double()
    gram = rows @ rows.T
    for dim in (2, 5):
        found = teaching.projection(dim)
        assert found is not None and found.shape == (256, dim)
        best = torch.linalg.svd(rows)[2][:dim].T
        ours, theirs = (rows @ one.double() for one in (found, best))
        assert float((ours @ ours.T - theirs @ theirs.T).abs().max()) < 1e-5
        assert float((gram - ours @ ours.T).norm()) < float((gram - rows[:, :dim] @ rows[:, :dim].T).norm())
    assert teaching.projection(256) is None


# -- what a round holds ------------------------------------------------------------------------------------------------


def test_each_image_comes_once_a_pass_with_what_the_teacher_says(tiny_dataset: Path, teacher: Path) -> None:
    mode = mode_of(tiny_dataset, teacher, distill_passes=2)
    assert mode.rounds_per_epoch == 2 and len(mode.teaching) == len(mode.images)
    batches = mode.round(network_of(), 1, 0)
    keys = np.concatenate(batches.batches)
    assert sorted(keys) == list(range(len(mode.images)))
    for number, batch in enumerate(batches):
        assert torch.allclose(batch.taught, eyes_of(teacher, batch.images), atol=1e-4), number
    again, other = mode.round(network_of(), 1, 0), mode.round(network_of(), 1, 1)
    assert np.array_equal(np.concatenate(again.batches), keys)
    assert not np.array_equal(np.concatenate(other.batches), keys)
    rest = [batch.taught for batch in batches.after(1)]
    assert len(rest) == len(batches) - 1 and torch.equal(rest[0], list(batches)[1].taught)


def test_mirrored_images_are_what_the_teacher_saw_mirrored(tiny_dataset: Path, teacher: Path) -> None:
    mode = mode_of(tiny_dataset, teacher, flip=True)
    batches = mode.round(network_of(), 0, 0)
    keys = np.concatenate(batches.batches)
    mirrored = keys >= len(mode.images)
    assert mirrored.any() and not mirrored.all()
    assert sorted(keys % len(mode.images)) == list(range(len(mode.images)))
    plain = {key: image for batch, of in zip(batches, batches.batches, strict=True)
             for key, image in zip(of, batch.images, strict=True)}  # fmt: skip
    unflipped = mode_of(tiny_dataset, teacher).round(network_of(), 0, 0)
    as_they_are = {key: image for batch, of in zip(unflipped, unflipped.batches, strict=True)
                   for key, image in zip(of, batch.images, strict=True)}  # fmt: skip
    for key, image in plain.items():
        upright = as_they_are[key % len(mode.images)]
        assert torch.equal(image, upright.flip(-1) if key >= len(mode.images) else upright)
    for batch in batches:
        assert torch.allclose(batch.taught, eyes_of(teacher, batch.images), atol=1e-4)


def test_an_image_is_beside_its_neighbours(tiny_dataset: Path, teacher: Path) -> None:
    mode = mode_of(tiny_dataset, teacher, distill_neighbours=2)
    pool = np.arange(len(mode.images))[::-1].copy()
    rows = mode.teaching.of(pool)
    alike = (rows @ rows.T).numpy()
    left = set(range(len(pool)))
    for group in mode._groups(pool, 3):
        first, *others = (int(np.flatnonzero(pool == one)[0]) for one in group)
        assert first == min(left)
        left.remove(first)
        best = sorted(left, key=lambda place, of=first: -alike[of, place])[:2]
        assert {round(float(alike[first, one]), 5) for one in others} == {
            round(float(alike[first, one]), 5) for one in best
        }
        left -= set(others)
    assert not left
    assert [len(group) for group in mode_of(tiny_dataset, teacher, distill_neighbours=0)._groups(pool, 1)] == [1] * len(
        pool
    )


def test_folders_without_coordinates_are_learned_from_too(tiny_dataset: Path, teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 30, 3), np.uint8)).save(
            folder / f"{number}.png"
        )
    mode = mode_of(tiny_dataset, teacher, distill_folder=(folder,))
    assert len(mode.teaching) == len(mode.images) + 3
    batches = mode.round(network_of(), 0, 0)
    assert max(map(max, batches.batches)) == len(mode.images) + 2
    for batch in batches:
        assert torch.allclose(batch.taught, eyes_of(teacher, batch.images), atol=1e-4)


# -- training ----------------------------------------------------------------------------------------------------------


class SmallNetwork(nn.Module):
    """Images [B,3,H,W] -> descriptors [B,8] that differ much, unlike those of a deep network's random weights."""

    resize_multiple = 1

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.config: dict[str, Any] = {}
        self.out = nn.Linear(48, 8)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.out(F.adaptive_avg_pool2d(images.float() / 64 - 2, 4).flatten(1))
        return found


@pytest.mark.parametrize("loss", ["similarity", "descriptor"])
def test_a_student_of_the_same_network_reaches_its_teacher(
    tiny_dataset: Path, teacher: Path, tmp_path: Path, loss: str
) -> None:
    mode, taught, student = mode_of(tiny_dataset, teacher, distill_loss=loss), SmallNetwork(1), SmallNetwork(2)
    mode.projection = None
    batches = mode.round(network_of(), 0, 0)
    images = {key: image for batch, of in zip(batches, batches.batches, strict=True)
              for key, image in zip(of, batch.images, strict=True)}  # fmt: skip

    def said(keys: Any) -> Tensor:
        with torch.no_grad():
            return F.normalize(taught(torch.stack([images[key] for key in keys])), dim=1)

    mode.teaching.of = said  # type: ignore[method-assign]
    batch = next(iter(mode.round(student, 9, 0)))  # type: ignore[arg-type]

    def apart() -> float:
        with torch.no_grad():
            return float(mode.loss(student.eval(), batch, torch.Generator()))

    before = apart()
    trained(
        mode, student, tmp_path / "run", TrainOptions(train_mode="distill", epochs_num=30, lr=0.02, schedule="cosine")
    )
    after = apart()
    assert before > 0.05 and after < 0.1 * before, (before, after)
    student.load_state_dict(taught.state_dict())
    assert apart() < 1e-6, "the teacher itself is without loss"


def test_a_cut_run_ends_with_the_same_bits(
    tiny_dataset: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainOptions(train_mode="distill", epochs_num=2, lr=1e-3)
    whole = trained(mode_of(tiny_dataset, teacher, flip=True), network_of(), tmp_path / "whole", options)
    with interrupted(monkeypatch, DistillMode, 4):
        trained(mode_of(tiny_dataset, teacher, flip=True), network_of(), tmp_path / "cut", options)
    resumed = trained(mode_of(tiny_dataset, teacher, flip=True), network_of(5), tmp_path / "cut", options, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_beside_another_way_to_train_the_losses_are_summed(tiny_dataset: Path, teacher: Path) -> None:
    base = recipe(tiny_dataset, teacher)
    training = dataclasses.replace(base.training, train_modes=("places", "distill"))
    data = dataclasses.replace(base.data, train_dataset_name=("tiny", "tiny"), train_weights=(1.0, 10.0))
    mode = build_mode(dataclasses.replace(base, roots=(tiny_dataset, tiny_dataset), training=training, data=data))
    assert isinstance(mode, JointMode) and mode.names == ("tiny", "tiny (distill)")
    network = network_of().eval()
    batch = next(iter(mode.round(network, 0, 0)))
    parts = [one.loss(network, part, torch.Generator()) for one, part in zip(mode.modes, batch.parts, strict=True)]
    assert torch.allclose(mode.loss(network, batch, torch.Generator()), parts[0] + 10 * parts[1])


def test_descriptors_of_the_teacher_are_kept(
    tiny_dataset: Path, teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = mode_of(tiny_dataset, teacher).teaching
    written = sorted((teacher.parent / "descriptors").iterdir())
    times = [file.stat().st_mtime_ns for file in written]
    with caplog.at_level("INFO"):
        again = mode_of(tiny_dataset, teacher).teaching
    assert "reused" in caplog.text and again.fingerprint == first.fingerprint
    assert [file.stat().st_mtime_ns for file in written] == times
    larger = mode_of(tiny_dataset, teacher, distill_resize=(64, 64)).teaching
    assert larger.fingerprint != first.fingerprint
    assert not torch.allclose(larger.of(np.arange(3)), first.of(np.arange(3)), atol=1e-3)


def test_an_ensemble_teaches_a_smaller_network(tiny_dataset: Path, tmp_path: Path) -> None:
    ensemble = build_ensemble([network_of(1), network_of(2)])
    mode = mode_of(tiny_dataset, saved(ensemble, tmp_path / "both"), distill_loss="both")
    assert mode.teaching.dim == 512 and mode.projection is not None and mode.projection.shape == (512, 256)
    student = network_of(3)
    batch = next(iter(mode.round(student, 0, 0)))
    loss = mode.loss(student, batch, torch.Generator())
    s, t = F.normalize(student(batch.images), dim=1), batch.taught
    expected = similarity_loss(s, t) + descriptor_loss(s, t, mode.projection)
    assert torch.allclose(loss, expected, atol=1e-5)


def test_what_cannot_be_learned_from_is_refused_in_one_line(tiny_dataset: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--train_mode distill: no teacher. Expected --distill_from"):
        mode_of(tiny_dataset, None)
    with pytest.raises(UserError, match=r"--distill_from .*none.pth: no such checkpoint"):
        mode_of(tiny_dataset, tmp_path / "none.pth")
    bare = tmp_path / "bare.pth"
    torch.save({"model_state_dict": network_of().state_dict()}, bare)
    with pytest.raises(UserError, match=r"--distill_from .*bare.pth: does not say which network it holds"):
        mode_of(tiny_dataset, bare)
    mode = mode_of(tiny_dataset, teacher)
    with pytest.raises(UserError, match="the interrupted run learned from another teacher"):
        mode.load_state_dict(mode_of(tiny_dataset, teacher, distill_resize=(64, 64)).state_dict())
    with pytest.raises(UserError, match="--distill_batch_size"):
        DistillOptions(distill_batch_size=1)


def test_the_job_distils(call: Callable[..., tuple[int, str, str]], pristine_dataset: Path, tmp_path: Path) -> None:
    from calls import SMALL, complaint, of

    network = build_network("resnet18conv4", "gem", pretrain="none", fc_output_dim=16)
    path = saved(network, tmp_path / "teacher")
    command = (*of(pristine_dataset), *SMALL, "--pretrain=none", "--epochs_num=1", "--train_mode=distill")
    command += ("--backbone=resnet18conv4", "--aggregation=gem", "--fc_output_dim=8", "--distill_batch_size=8")
    student = tmp_path / "run"
    status, out, err = call(
        "train.py", *command, f"--distill_from={path}", f"--run_dir={student}", "--distill_loss=both"
    )
    assert status == 0, err
    assert f"distillation from {path}, 16 dimensions, by both" in out
    assert list((path.parent / "descriptors").glob("distill-*.h5"))
    found = call("train.py", *command, f"--distill_from={tmp_path / 'gone.pth'}")
    assert "no such checkpoint" in complaint(found)
    alone = call("train.py", *of(pristine_dataset), *SMALL, f"--distill_from={path}")
    assert "--train_mode" in complaint(alone)
