"""Which small parts a backbone is given, by the options that name them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import nn

from vgbench.models.adapting.adapters import add_adapters, add_side_branch
from vgbench.models.adapting.beside import (
    CONVOLUTION_SCALE,
    LOW_RANK,
    LOW_RANK_SCALE,
    add_convolutions,
    add_low_rank_branch,
)
from vgbench.models.adapting.lora import add_low_rank
from vgbench.models.adapting.options import BRANCHES, AdaptingOptions
from vgbench.models.base import Backbone
from vgbench.options import option_names

# With one of these given, what they name of the backbone itself learns too.
_FREEZING = ("unfreeze_blocks", "freeze_te", "freeze")


def taken_options(options: MutableMapping[str, Any]) -> AdaptingOptions:
    """Take the options of adapting out of a network's; raises UserError for a bad value."""
    names = option_names(AdaptingOptions)
    return AdaptingOptions(**{name: options.pop(name) for name in names if name in options})


def adapt(name: str, trunk: Backbone, options: AdaptingOptions, others: Mapping[str, Any]) -> dict[str, Any]:
    """Give a backbone what the options say, in place; returns what its configuration says of it.

    What is added learns, and of the backbone's own weights those that an option names (`--unfreeze_blocks`). A file
    without what is added is loaded all the same where it starts as the identity.

    Args:
        name: the backbone's, for messages.
        others: the network's other options.

    Raises:
        UserError: the backbone is not made for it.
    """
    if options.lora_rank is None and options.adapter is None:
        return {}
    if all(others.get(one) is None for one in _FREEZING):
        trunk.requires_grad_(False)
    if options.adapter is not None:
        _add_adapters(name, trunk, options.adapter, options)
    if options.lora_rank is not None:
        alpha = float(options.lora_rank) if options.lora_alpha is None else options.lora_alpha
        added = add_low_rank(name, trunk, options.lora_rank, alpha, options.lora_layers or "attention")
        _train(trunk, added)
        trunk.spare_keys = (*trunk.spare_keys, *added)
    return {field: value for field, value in dataclasses.asdict(options).items() if value is not None}


def _add_adapters(name: str, trunk: Backbone, kind: str, options: AdaptingOptions) -> None:
    ratio = 0.5 if options.adapter_ratio is None else options.adapter_ratio

    def scale(usual: float) -> float:
        return usual if options.adapter_scale is None else options.adapter_scale

    if kind in BRANCHES:  # they begin as something else than the transformer, and no gradient reaches that
        trunk.requires_grad_(False)
        if kind == "multiconv":
            added = add_side_branch(name, trunk, ratio)
        else:
            hidden = LOW_RANK if options.adapter_ratio is None else max(int(trunk.out_channels * ratio), 1)
            added = add_low_rank_branch(name, trunk, hidden, scale(LOW_RANK_SCALE))
    else:
        if kind == "parallel_multiconv":
            added = add_convolutions(name, trunk, ratio, scale(CONVOLUTION_SCALE))
        else:
            added = add_adapters(name, trunk, kind, ratio, scale(0.2))
        trunk.spare_keys = (*trunk.spare_keys, *added)
    _train(trunk, added)


def _train(trunk: nn.Module, names: list[str]) -> None:
    learned = dict(trunk.named_parameters())
    for name in names:
        if name in learned:  # running statistics are none
            learned[name].requires_grad_(True)
