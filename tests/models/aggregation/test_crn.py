"""The contextual reweighting network beside NetVLAD."""

from __future__ import annotations

import torch
from small_heads import small_options
from torch import nn

from vgbench.models import build_aggregation

CHANNELS, HEIGHT, WIDTH = 12, 7, 10


def _layer(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_aggregation(name, CHANNELS, **small_options(name, HEIGHT, WIDTH)).eval()


def test_crn_with_equal_weights_everywhere_is_netvlad() -> None:
    crn, netvlad = _layer("crn"), _layer("netvlad")
    netvlad.load_state_dict({key: value for key, value in crn.state_dict().items() if not key.startswith("crn")})
    nn.init.zeros_(crn.crn.acc_w.weight)
    nn.init.ones_(crn.crn.acc_w.bias)
    features = torch.randn(2, CHANNELS, HEIGHT, WIDTH)
    torch.testing.assert_close(crn(features), netvlad(features))
