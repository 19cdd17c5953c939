"""Every loss and miner of pytorch-metric-learning that is offered: it learns, and the usual settings are in place."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vgbench.errors import UserError
from vgbench.training.losses.centroid_triplet import CentroidTripletLoss
from vgbench.training.losses.metric import (
    build_metric_loss,
    build_metric_miner,
    loss_names,
    loss_of,
    miner_beside,
    miner_names,
    needs_classes,
)

PLACES, IMAGES, DIM = 6, 4, 8
STEPS, NOISE = 150, 0.7


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Places whose images differ more than places do, in the two coordinates that a network must find."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(PLACES).repeat_interleave(IMAGES)
    places = torch.randn(PLACES, 4, generator=generator)[labels]
    noise = NOISE * torch.randn(len(labels), 12, generator=generator)
    return torch.cat([places, noise], 1), labels


def nearest_is_right(descriptors: torch.Tensor, labels: torch.Tensor) -> float:
    similarity = descriptors @ descriptors.T
    similarity.fill_diagonal_(-2)
    return (labels[similarity.argmax(1)] == labels).float().mean().item()


def train(loss: str, miner: str, steps: int = STEPS) -> tuple[float, float]:
    inputs, labels = problem()
    torch.manual_seed(0)
    network = torch.nn.Linear(16, DIM)
    criterion = build_metric_loss(loss, (), None, places=PLACES, dim=DIM)
    mine = build_metric_miner(miner, (), None)
    rates = [{"params": [*network.parameters()], "lr": 0.02}, {"params": [*criterion.parameters()], "lr": 0.1}]
    optimizer = torch.optim.Adam(rates)
    before = nearest_is_right(F.normalize(network(inputs), dim=1).detach(), labels)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss_of(criterion, mine, F.normalize(network(inputs), dim=1), labels)
        assert value.ndim == 0 and torch.isfinite(value)
        if value.requires_grad:
            value.backward()
        optimizer.step()
    return before, nearest_is_right(F.normalize(network(inputs), dim=1).detach(), labels)


@pytest.mark.parametrize("loss", loss_names())
def test_every_loss_learns(loss: str) -> None:
    before, after = train(loss, "none")
    assert before < 0.4 and after > 0.7, f"{loss}: {before:.2f} -> {after:.2f}"


@pytest.mark.parametrize("loss", loss_names())
def test_every_loss_takes_a_step_with_the_miner_that_it_has_where_nobody_asked_for_one(loss: str) -> None:
    inputs, labels = problem()
    torch.manual_seed(0)
    network = torch.nn.Linear(16, DIM)
    criterion = build_metric_loss(loss, (), None, places=PLACES, dim=DIM)
    mine = build_metric_miner(miner_beside(loss, None), (), None)
    loss_of(criterion, mine, F.normalize(network(inputs), dim=1), labels).backward()
    slope = network.weight.grad
    assert slope is not None and torch.isfinite(slope).all() and slope.abs().sum() > 0


@pytest.mark.parametrize("loss", loss_names())
def test_a_miner_changes_the_loss_or_is_refused(loss: str) -> None:
    inputs, labels = problem()
    descriptors = F.normalize(inputs, dim=1)
    torch.manual_seed(0)
    criterion = build_metric_loss(loss, (), None, places=PLACES, dim=16)
    if miner_beside(loss, None) == "none":
        with pytest.raises(
            UserError, match=r"^--miner MultiSimilarity: --loss \w+ takes no miner\. Expected --miner none"
        ):
            miner_beside(loss, "MultiSimilarity")
        return
    miner = build_metric_miner(miner_beside(loss, "MultiSimilarity"), (), None)
    alone, mined = (loss_of(criterion, chosen, descriptors, labels).item() for chosen in (None, miner))
    assert alone != mined


def test_which_miner_stands_beside_a_loss() -> None:
    without = {name for name in loss_names() if miner_beside(name, None) == "none"}
    assert without == {"CentroidTripletLoss", "P2SGradLoss", "PNPLoss", "RankedListLoss"}
    assert miner_beside("RankedList", "none") == miner_beside("NTXent", "none") == "none"
    assert miner_beside("NTXent", None) == "MultiSimilarity"
    own = "vgbench.training.losses.centroid_triplet:CentroidTripletLoss"
    assert miner_beside(own, None) == "none"


@pytest.mark.parametrize("miner", miner_names())
def test_every_miner_helps_a_loss_learn(miner: str) -> None:
    before, after = train("ContrastiveLoss" if "Pair" in miner else "TripletMarginLoss", miner)
    assert before < 0.4 and after > 0.7, f"{miner}: {before:.2f} -> {after:.2f}"


def test_what_the_field_asks_for_is_there() -> None:
    wanted = "TripletMargin Contrastive SupCon Circle MultiSimilarity GeneralizedLiftedStructure FastAP NTXent"
    wanted += " CentroidTriplet ArcFace"
    assert {f"{name}Loss" for name in wanted.split()} <= set(loss_names())
    wanted = "BatchHard DistanceWeighted PairMargin MultiSimilarity TripletMargin"
    assert {f"{name}Miner" for name in wanted.split()} <= set(miner_names())
    assert needs_classes("ArcFace") and not needs_classes("MultiSimilarity")


def test_multi_similarity_by_the_formula() -> None:
    """Wang et al., 2019, with the weights that GSV-Cities trains with."""
    torch.manual_seed(0)
    descriptors, labels = F.normalize(torch.randn(8, 5), dim=1), torch.arange(8) // 2
    criterion = build_metric_loss("MultiSimilarity", (), None, places=4, dim=5)
    expected = 0.0
    similarity = (descriptors @ descriptors.T).double()
    for i in range(8):
        positives = [similarity[i, j] for j in range(8) if j != i and labels[j] == labels[i]]
        negatives = [similarity[i, j] for j in range(8) if labels[j] != labels[i]]
        expected += sum(torch.exp(-1.0 * s) for s in positives).add(1).log().item() / 1.0
        expected += sum(torch.exp(50.0 * s) for s in negatives).add(1).log().item() / 50.0
    assert loss_of(criterion, None, descriptors, labels).item() == pytest.approx(expected / 8, abs=1e-4)


def test_centroids_by_the_formula() -> None:
    torch.manual_seed(0)
    descriptors, labels = F.normalize(torch.randn(9, 4), dim=1), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    total, count = 0.0, 0
    for i in range(9):
        own = [descriptors[j] for j in range(9) if j != i and labels[j] == labels[i]]
        if not own:
            continue
        positive = (descriptors[i] - torch.stack(own).mean(0)).norm()
        others = [descriptors[labels == other].mean(0) for other in range(4) if other != labels[i]]
        negative = min((descriptors[i] - other).norm() for other in others)
        total, count = total + max(0.0, float(positive - negative + 0.3)), count + 1
    assert CentroidTripletLoss(0.3)(descriptors, labels).item() == pytest.approx(total / count, abs=1e-5)
    assert CentroidTripletLoss()(descriptors[:3], labels[:3]).item() == 0  # one place has no negatives


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_metric_loss("Tripple", (), None, places=2, dim=3), "--loss Tripple: not known"),
        (lambda: build_metric_loss("VICReg", (), None, places=2, dim=3), "--loss VICReg: not known"),
        (lambda: build_metric_loss("Circle", ("q=1",), None, places=2, dim=3), "no such argument.*: m, gamma"),
        (lambda: build_metric_loss("Circle", (), "euclidean", places=2, dim=3), "--loss Circle: cannot be made"),
        (lambda: build_metric_loss("CentroidTriplet", (), "cosine", places=2, dim=3), "has no choice of distance"),
        (lambda: build_metric_miner("Hard", (), None), "--miner Hard: not known"),
        (lambda: build_metric_miner("none", ("a=1",), None), "takes no --miner_args"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_arguments_reach_the_loss() -> None:
    criterion = build_metric_loss("TripletMargin", ("margin=0.7", "swap=True"), "cosine", places=2, dim=3)
    assert criterion.margin == 0.7 and criterion.swap is True
    assert type(criterion.distance).__name__ == "CosineSimilarity"
    assert build_metric_miner("PairMargin", ("pos_margin=0.6",), None).pos_margin == 0.6
