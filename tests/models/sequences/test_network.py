"""Each aggregation over frames against its formula in float64, and what a network of sequences is built from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vgbench.errors import UserError
from vgbench.models import build_network, rebuild_network
from vgbench.models.aggregation.netvlad import NetVLAD
from vgbench.models.network import for_inference
from vgbench.models.sequences import SEQ_AGGREGATIONS
from vgbench.models.sequences.network import SequenceNetwork, with_sequences
from vgbench.models.sequences.seqnet import SeqNet
from vgbench.models.sequences.seqvlad import SeqVLAD
from vgbench.models.stored_config import check_config, own_code_of
from vgbench.runtime import Runtime

F, L = 12, 5


def frames(seed: int = 0, batch: int = 3, length: int = L) -> torch.Tensor:
    return torch.rand(batch, length, F, generator=torch.Generator().manual_seed(seed)) + 0.01


def made(name: str, length: int = L, **options: object) -> torch.nn.Module:
    torch.manual_seed(1)
    return SEQ_AGGREGATIONS.resolve(name)(F, length, **options)


def formula(name: str, module: torch.nn.Module, given: np.ndarray) -> np.ndarray:
    if name == "concat":
        return np.stack([np.concatenate(list(one)) for one in given])
    if name == "mean":
        return np.stack([sum(one) / len(one) for one in given])
    if name == "seqgem":
        p = float(module.p.detach())
        return np.stack([(sum(frame**p for frame in one) / len(one)) ** (1 / p) for one in given])
    weight, bias = (tensor.detach().double().numpy() for tensor in (module.conv.weight, module.conv.bias))
    width, out = weight.shape[2], []
    for one in given:
        windows = [one[start : start + width] for start in range(len(one) - width + 1)]
        means = sum(np.einsum("dfw,wf->d", weight, window) + bias for window in windows) / len(windows)
        out.append(means / np.linalg.norm(means))
    return np.stack(out)


@pytest.mark.parametrize(
    ("name", "options"),
    [("concat", {}), ("mean", {}), ("seqgem", {}), ("seqgem", {"p": 1.7}), ("seqnet", {}),
     ("seqnet", {"seqnet_width": 2, "seqnet_dim": 7})],
)  # fmt: skip
def test_formula_in_float64(name: str, options: dict[str, object]) -> None:
    module, given = made(name, **options), frames()
    found = module(given).detach()
    assert found.shape == (3, module.descriptors_dim)
    assert np.allclose(found, formula(name, module, given.double().numpy()), atol=1e-6)
    order = torch.tensor([3, 0, 4, 2, 1])
    same = torch.allclose(module(given[:, order]), module(given), atol=1e-6)
    assert same == (name in ("mean", "seqgem"))


@pytest.mark.parametrize("name", ["concat", "mean", "seqgem"])
def test_one_frame_is_the_image(name: str) -> None:
    one = frames(length=1)
    assert torch.allclose(made(name, 1)(one), one[:, 0], atol=1e-6)
    network = build_network("resnet18conv4", "gem", "none").eval()
    images = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)
    of_one = with_sequences(network, name, 1).eval()
    assert torch.allclose(of_one(images[:, None]), network(images), atol=1e-6)


def test_seqvlad_is_netvlad_over_all_frames_local_features() -> None:
    torch.manual_seed(0)
    layer, maps = NetVLAD(6, netvlad_clusters=4), torch.randn(2 * L, 6, 3, 5)
    together = maps.unflatten(0, (2, L)).transpose(1, 2).flatten(2, 3)  # [2,6,L*3,5]
    expected = layer(together)
    # By hand, in float64: every local feature's residual to every cluster.
    x = together.double().flatten(2).transpose(1, 2).numpy()
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    scores = x @ layer.conv.weight.detach().double().flatten(1).numpy().T
    share = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
    residuals = x[:, :, None] - layer.centroids.detach().double().numpy()
    sums = (share[..., None] * residuals).sum(axis=1)
    sums /= np.linalg.norm(sums, axis=2, keepdims=True)
    by_hand = sums.reshape(2, -1) / np.linalg.norm(sums.reshape(2, -1), axis=1, keepdims=True)
    head = SeqVLAD(layer.descriptors_dim, L)
    head.bind(layer)
    frames_of = layer(maps).unflatten(0, (2, L))
    assert not layer.normalised and head.descriptors_dim == 24
    assert torch.allclose(head(frames_of), expected, atol=1e-5)
    assert np.allclose(head(frames_of).detach(), by_hand, atol=1e-5)
    assert torch.allclose(head(frames_of[:, [4, 1, 0, 3, 2]]), head(frames_of), atol=1e-6)


@pytest.mark.parametrize(
    ("aggregation", "name", "options"),
    [("gem", "seqgem", {"seq_aggregation_args": ("p=2.5",)}), ("netvlad", "seqvlad", {}), ("gem", "concat", {}),
     ("gem", "seqnet", {"seqnet_width": 3, "seqnet_dim": 8})],
)  # fmt: skip
def test_the_configuration_builds_the_same_network(aggregation: str, name: str, options: dict[str, object]) -> None:
    torch.manual_seed(3)
    network = with_sequences(build_network("resnet18conv4", aggregation, "none"), name, 4, **options).eval()
    check_config(network.config)
    again = rebuild_network(network.config, network.state_dict()).eval()
    assert isinstance(again, SequenceNetwork) and again.config == network.config and again.seq_length == 4
    images = torch.randint(0, 256, (2, 4, 3, 32, 48), dtype=torch.uint8)
    with torch.no_grad():
        found = network(images)
        assert torch.equal(found, again(images)) and found.shape == (2, network.descriptors_dim)
        each = for_inference(network.of_frames, Runtime())(images.flatten(0, 1)).unflatten(0, (2, 4))
        assert torch.allclose(network.aggregate(each), found, atol=1e-4)
    assert network.name == f"resnet18conv4 + {aggregation} + {name} of 4"
    with pytest.raises(UserError, match=r"describes sequences .*Expected"):
        network(images[0])
    found.sum()


def test_weights_are_of_any_length() -> None:
    network = with_sequences(build_network("resnet18conv4", "gem", "none"), "seqnet", 5, seqnet_width=3)
    longer = rebuild_network({**network.config, "seq_length": 9}, network.state_dict())
    assert longer.seq_length == 9 and longer.descriptors_dim == 256


@pytest.mark.parametrize(
    ("aggregation", "name", "options", "said"),
    [
        ("gem", "seqvlad", {}, "--seq_aggregation seqvlad: .*Expected --aggregation netvlad"),
        ("gem", "seqnet", {"seqnet_width": 6}, "--seqnet_width 6: .*Expected at most 5"),
        ("gem", "mean", {"seqnet_dim": 6}, "--seqnet_dim: is not of --seq_aggregation mean"),
        ("gem", "meen", {}, "not known"),
        ("gem", "mean", {"seq_aggregation_args": ("p=1",)}, "p"),
        ("gem", "torch.nn:Identity", {}, "descriptors_dim|does not"),
    ],
)
def test_refused(aggregation: str, name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        with_sequences(build_network("resnet18conv4", aggregation, "none"), name, 5, **options)


def test_files_say_no_more_than_they_may() -> None:
    config = {"backbone": "resnet18conv4", "aggregation": "gem", "seq_aggregation": "mean"}
    for wrong in (
        {"seq_length": 10**6},
        {"seq_length": 0},
        {"seq_length": "5"},
        {},
        {"seq_length": 5, "seqnet_dim": 2**40},
    ):
        with pytest.raises(UserError):
            check_config({**config, **wrong})
    own = {**config, "seq_aggregation": "somebody.code:Class", "seq_length": 3}
    with pytest.raises(UserError, match=r"somebody\.code:Class"):
        check_config(own)
    check_config(own, own=["somebody.code:Class"])
    assert own_code_of(own) == ["somebody.code:Class"]
    twice = with_sequences(build_network("resnet18conv4", "gem", "none"), "mean", 2)
    with pytest.raises(UserError, match="sequences already"):
        with_sequences(twice, "mean", 2)


def test_seqnet_learns() -> None:
    torch.manual_seed(0)
    module, given = SeqNet(F, L, seqnet_width=3), frames()
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        found = module(given)
        loss = found[0] @ found[1] - found[0] @ found[2]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
