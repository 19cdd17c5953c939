"""The weights and images of the conformance networks, each drawn from its own name: no file has to hold them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def weight_of(key: str, shape: Sequence[int]) -> Tensor:
    """The weight of one key of a state dict, as `conformance/README.md` says."""
    z = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.long)
    if key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(z)
    elif len(shape) >= 2:
        value = z * np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith(".p"):
        value = np.full(shape, 3.0)
    elif key.endswith("weight"):
        value = 1 + 0.1 * z
    else:
        value = 0.05 * z
    return torch.as_tensor(value, dtype=torch.float32)


def weights_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The weights of all keys."""
    return {key: weight_of(key, shape) for key, shape in shapes.items()}


def images_of(height: int, width: int) -> Tensor:
    """Two normalised images float32 [2,3,height,width]."""
    return torch.as_tensor(np.random.RandomState(5).rand(2, 3, height, width) * 2 - 1, dtype=torch.float32)
