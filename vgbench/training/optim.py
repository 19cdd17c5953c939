"""Optimisers."""

from __future__ import annotations

import torch
from torch import nn

from vgbench.errors import UserError
from vgbench.training.options import TrainOptions

SGD_MOMENTUM = 0.9
SGD_WEIGHT_DECAY = 1e-3


def build_optimizer(network: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """Return the optimiser of the network's trainable parameters.

    Raises:
        UserError: nothing in the network can be trained.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise UserError("network: every parameter is frozen. Expected at least one to train; freeze fewer stages")
    if options.optim == "adam":
        return torch.optim.Adam(parameters, lr=options.lr, weight_decay=options.weight_decay or 0.0)
    decay = SGD_WEIGHT_DECAY if options.weight_decay is None else options.weight_decay
    return torch.optim.SGD(parameters, lr=options.lr, momentum=SGD_MOMENTUM, weight_decay=decay)
