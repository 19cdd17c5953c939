"""What holds for every aggregation, and what each of them promises beyond the conformance vectors."""

from __future__ import annotations

import math

import pytest
import torch
from small_heads import small_options
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models import AGGREGATIONS, build_aggregation

CHANNELS, HEIGHT, WIDTH = 12, 7, 10


# L2-normalised always; the others are where --l2 says so, or not at all.
UNIT = {"netvlad", "crn", "rrm", "convap", "convgem", "cosplace", "mixvpr", "salad", "megaloc", "boq",
        "supervlad", "cricavpr", "edtformer", "qaa", "vlad_buff", "image", "selavpr", "selavpr_pp", "fol",
        "pairvpr", "r2former"}  # fmt: skip


FROZEN = {
    "crn": {"crn.acc_w.weight", "crn.acc_w.bias"},
    "qaa": {"dust_bin", "score.norm2_out.weight", "score.norm2_out.bias"},
}
# Branches of local features, which have no part in descriptors.
OF_RERANKING = ("local.", "upconv", "dec", "classvpr", "local_head.", "reranker.")


def _layer(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_aggregation(name, CHANNELS, **small_options(name, HEIGHT, WIDTH)).eval()


def _inputs(name: str, batch: int = 3) -> Tensor | tuple[Tensor, ...]:
    torch.manual_seed(1)
    features = torch.rand(batch, CHANNELS, HEIGHT, WIDTH)
    kinds = AGGREGATIONS.resolve(name)
    return {
        "map+token": (features, torch.rand(batch, CHANNELS)),
        "map+token+attention": (features, torch.rand(batch, CHANNELS), torch.rand(batch, HEIGHT * WIDTH) / 30),
        "earlier map+2 tokens+attention": (features, torch.rand(batch, 2, CHANNELS), torch.rand(batch, HEIGHT * WIDTH)),
        "tokens": features.flatten(2).transpose(1, 2),
        "vector": features[:, :, 0, 0],
    }.get(getattr(kinds, "takes", "map") if isinstance(getattr(kinds, "takes", "map"), str) else "map", features)


@pytest.mark.parametrize("name", [name for name in AGGREGATIONS if name != "cricavpr"])  # that mixes a batch
def test_each_image_is_described_by_itself(name: str) -> None:
    layer, inputs = _layer(name), _inputs(name)
    pick = (lambda i: tuple(t[i : i + 1] for t in inputs)) if isinstance(inputs, tuple) else lambda i: inputs[i : i + 1]
    with torch.no_grad():
        together = layer(inputs)
        alone = torch.cat([layer(pick(i)) for i in range(3)])
    assert together.shape == (3, layer.descriptors_dim)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    if name in UNIT:
        torch.testing.assert_close(together.norm(dim=1), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(AGGREGATIONS))
def test_every_weight_is_trained_and_autocast_answers_float32(name: str) -> None:
    layer = _layer(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        descriptors = layer(_inputs(name))
    assert descriptors.dtype == torch.float32
    if descriptors.requires_grad:
        (descriptors * torch.randn_like(descriptors)).sum().backward()
    weights = dict(layer.named_parameters())
    frozen = {key for key, weight in weights.items() if not weight.requires_grad}
    assert frozen == FROZEN.get(name, set())
    learned = {key: p for key, p in weights.items() if key not in frozen and not key.startswith(OF_RERANKING)}
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learned.values())


@pytest.mark.parametrize("name", list(AGGREGATIONS))
def test_features_that_are_all_zero_give_finite_descriptors_and_gradients(name: str) -> None:
    layer, inputs = _layer(name), _inputs(name)
    zeros = tuple(t.zero_().requires_grad_() for t in inputs) if isinstance(inputs, tuple) else inputs.zero_()
    descriptors = layer(zeros)
    assert torch.isfinite(descriptors).all()
    if descriptors.requires_grad:
        descriptors.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


def test_aggregations_refuse_options_of_others() -> None:
    with pytest.raises(UserError, match=r"aggregation mac: no option 'p'. Expected one of: \(it has none\)"):
        build_aggregation("mac", 4, p=3.0)
    assert math.isclose(build_aggregation("gem", 4, p=2.5)[1].p.item(), 2.5)
