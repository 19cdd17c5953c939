"""The hashing branch of a network: signs and their gradient, what is stored, what is not changed by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vgbench.errors import UserError
from vgbench.models import Network, NetworkOptions, build_network, network_from_options, rebuild_network
from vgbench.models.hashing import HashingBranch, attach_hashing, hashing_of, straight_through_sign
from vgbench.models.network import weights_hash
from vgbench.models.stored_config import check_config
from vgbench.training.start import start_network, start_options


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_gradient_of_a_sign_is_that_of_its_value() -> None:
    values = torch.tensor([-2.0, -1e-9, 0.0, 3.0], requires_grad=True)
    signs = straight_through_sign(values)
    assert signs.tolist() == [-1, -1, 1, 1]
    wanted = torch.tensor([0.5, -2.0, 7.0, 1.0])
    (signs * wanted).sum().backward()
    assert torch.equal(values.grad, wanted)


def test_codes_are_the_formula_in_training_and_in_eval() -> None:
    torch.manual_seed(0)
    branch = HashingBranch(12, 7).train()
    weight = branch.projection.weight.double()
    mean, variance = torch.zeros(7, dtype=torch.float64), torch.ones(7, dtype=torch.float64)
    for step in range(1, 31):
        x = drawn(9, 12, seed=step) + 2
        values = x.double() @ weight.T
        share = max(0.05, 1 / step)
        mean, variance = mean.lerp(values.mean(0), share), variance.lerp(values.var(0, unbiased=False), share)
        assert torch.equal(branch(x), torch.where(values >= values.mean(0), 1.0, -1.0))
    torch.testing.assert_close(branch.mean.double(), mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(branch.variance.double(), variance, atol=1e-5, rtol=1e-5)
    branch.eval()
    x = drawn(50, 12, seed=99) + 2
    codes = branch(x)
    assert torch.equal(codes, torch.where(x.double() @ weight.T >= mean, 1.0, -1.0))
    assert torch.equal(branch(x[:1]), codes[:1])  # an image's code does not depend on others
    arrays = branch.thresholds()
    assert torch.equal(torch.from_numpy(arrays["bias"]), -branch.mean)
    assert torch.equal(torch.from_numpy(arrays["weight"]), branch.projection.weight)


def test_training_changes_the_projection_through_the_signs() -> None:
    branch = HashingBranch(6, 4).train()
    x = drawn(8, 6)
    target = drawn(8, 4, seed=3)
    (branch(x) * target).sum().backward()
    values = (x @ branch.projection.weight.detach().T).requires_grad_(True)
    normed = (values - values.mean(0)) / (values.var(0, unbiased=False) + 1e-5).sqrt()
    (normed * target).sum().backward()
    torch.testing.assert_close(branch.projection.weight.grad, values.grad.T @ x, atol=1e-4, rtol=1e-4)


def small(**options: Any) -> Network:
    torch.manual_seed(0)
    return build_network("resnet18conv4", "gem", "none", **options).eval()


def test_a_checkpoint_carries_it_and_descriptors_do_not_depend_on_it() -> None:
    plain, network = small(), small()
    branch = attach_hashing(network, 24)
    assert attach_hashing(network, 24) is branch and hashing_of(plain) is None
    assert weights_hash(network) == weights_hash(plain)
    torch.nn.init.normal_(branch.projection.weight)
    again = rebuild_network(network.config, network.state_dict()).eval()
    assert again.config == network.config and again.config["hash_bits"] == 24
    x = drawn(3, 256)
    assert torch.equal(hashing_of(again)(x), branch(x))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(again(images), plain(images))
    with pytest.raises(UserError, match=r"--hash_bits 8: the network has codes of 24 bits"):
        attach_hashing(network, 8)
    with pytest.raises(UserError, match="missing"):
        rebuild_network(network.config, plain.state_dict())


def test_options_and_a_start_without_codes(tmp_path: Path) -> None:
    network = network_from_options(
        NetworkOptions(backbone="resnet18conv4", aggregation="gem", pretrain="none", hash_bits=9)
    )
    assert hashing_of(network).bits == 9
    start = small()
    path = tmp_path / "start.pth"
    torch.save({"network_config": start.config, "model_state_dict": start.state_dict(), "options": {}}, path)
    assert start_options({"start_from": path, "hash_bits": 9})["backbone"] == "resnet18conv4"
    begun = start_network(path, NetworkOptions(hash_bits=9))
    assert hashing_of(begun).bits == 9 and begun.config["hash_bits"] == 9
    torch.save({"network_config": begun.config, "model_state_dict": begun.state_dict(), "options": {}}, path)
    with pytest.raises(UserError, match="holds a network with --hash_bits 9, not 10"):
        start_options({"start_from": path, "hash_bits": 10})
    for wrong in (0, 2**20, "9"):
        with pytest.raises(UserError, match="hash_bits"):
            check_config({**begun.config, "hash_bits": wrong})
