"""What a network's weights are known by."""

from __future__ import annotations

import hashlib
import json

import torch

from vgbench.models.geowarp import NAME as GEOWARP
from vgbench.models.network import Network

_HASH_BYTES = 64 * 2**20


def weights_hash(network: Network) -> str:
    """Return the sha256 (hex) of every parameter and buffer (non-persistent ones too) and of the configuration.

    Those of GeoWarp are left out: descriptors do not depend on it.
    """
    config = {key: value for key, value in network.config.items() if key != GEOWARP}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    named = [*network.named_parameters(), *network.named_buffers()]
    named = [(name, tensor) for name, tensor in named if not name.startswith(f"{GEOWARP}.")]
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy()
        for start in range(0, len(flat), _HASH_BYTES):
            digest.update(flat[start : start + _HASH_BYTES].data)
    return digest.hexdigest()
