"""The original NetVLAD, released as a MATLAB file (Arandjelovic et al., 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vgbench.errors import UserError

# Places of the layers in the file's list: the convolutions stand where VGG-16's do, then these.
_NETVLAD, _WHITENING = 30, 33


def load_netvlad(network: nn.Module, path: Path) -> None:
    """Load the weights and the mean colour of the file into VGG-16 + NetVLAD (64 clusters) + projection to 4096.

    Raises:
        UserError: the file is no such file.
    """
    import scipy.io  # slow to import, and only this needs it

    try:
        net = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)["net"]
        weights = _converted(net.layers, network)
        mean = torch.as_tensor(net.meta.normalization.averageImage, dtype=torch.float32).reshape(-1, 3)[0]
    except (
        scipy.io.matlab.MatReadError, ValueError, KeyError, AttributeError, IndexError, TypeError, NotImplementedError,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: is not the released NetVLAD ({error}). Expected its .mat; fetch it again") from error
    network.load_state_dict(weights)
    # Pixels from 0 to 255, only centred.
    network.mean.copy_(mean.view(1, 3, 1, 1) / 255)  # type: ignore[operator]
    network.std.fill_(1 / 255)  # type: ignore[operator]


def _converted(layers: Any, network: nn.Module) -> dict[str, Tensor]:
    own = network.state_dict()
    weights = {}
    for index, layer in enumerate(network.backbone.children()):  # type: ignore[union-attr]
        if isinstance(layer, nn.Conv2d):
            kernel, bias = layers[index].weights  # [h,w,in,out], [out]
            weights[f"backbone.{index}.weight"] = _tensor(kernel).permute(3, 2, 0, 1)
            weights[f"backbone.{index}.bias"] = _tensor(bias)
    scores, centres = (_tensor(part) for part in layers[_NETVLAD].weights)  # [C,K] both, the centres negated
    channels, clusters = scores.shape
    weights["aggregation.0.conv.weight"] = scores.T[:, :, None, None]
    weights["aggregation.0.centroids"] = -centres.T
    matrix, bias = (_tensor(part) for part in layers[_WHITENING].weights)  # [1,1,in,out] or [in,out], [out]
    # There, a descriptor runs over clusters within channels; here, over channels within clusters.
    matrix = matrix.reshape(channels, clusters, -1).permute(2, 1, 0).flatten(1)
    weights["aggregation.1.weight"], weights["aggregation.1.bias"] = matrix, bias.flatten()
    converted = {key: value.contiguous() for key, value in weights.items()}
    if converted.keys() != own.keys():
        raise ValueError(f"its layers are others: {sorted(converted.keys() ^ own.keys())[:3]}")
    return converted


def _tensor(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
