"""The fast form of a network, for everything that only looks: extraction, mining, validation."""

from __future__ import annotations

import dataclasses

from vgbench.models.backends.base import Infer
from vgbench.models.network import Network
from vgbench.runtime import Inference, Runtime, backend_of

# Networks that look at all images of a batch are described in batches of this many, as CricaVPR's authors test theirs.
MIXED_BATCH = 16


def in_fixed_batches(network: Network, inference: Inference) -> Inference:
    """Return how images are described, in batches of MIXED_BATCH where the descriptors depend on their batch.

    So `--infer_batch_size` changes no descriptor, and neither does the number of ranks.
    """
    return dataclasses.replace(inference, batch_size=MIXED_BATCH) if network.mixes_batch else inference


def for_inference(network: Network, runtime: Runtime) -> Infer:
    """Return a function that computes the network's descriptors in eval mode, fast, by the runtime's backend.

    The function takes images [B,3,H,W] on the runtime's device, uint8 or normalised float, and returns descriptors
    float32 [B,D], equal to the network's within the rounding of the runtime's precision. It holds copies of the
    weights: make another one when they have changed. The network itself is left as it is, but for the code of others
    (`--method` of a HubRelease), which is not copied, and is in eval mode afterwards.

    Raises:
        UserError: the backend cannot express the network; the function raises it too.
    """
    found: Infer = backend_of(runtime).describer(network, runtime)
    return found


def features_for_inference(network: Network, runtime: Runtime) -> Infer:
    """Return the same for `Network.local_features`: a function to maps [B,C,h,w] or tokens [B,N,C], float32."""
    found: Infer = backend_of(runtime).mapper(network, runtime)
    return found
