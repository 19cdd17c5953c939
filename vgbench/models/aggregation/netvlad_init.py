"""Put NetVLAD's clusters where a backbone's local features are, before training (Arandjelovic et al., 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models.aggregation.netvlad import SoftlyAssigned
from vgbench.models.layers import l2_normalise
from vgbench.models.network import Network, features_for_inference
from vgbench.randomness import torch_stream
from vgbench.runtime import Runtime

IMAGES = 500
FEATURES_PER_IMAGE = 100


def netvlad_of(network: Network) -> SoftlyAssigned | None:
    """Return the NetVLAD layer of a network, or one of its kind (CRN, VLAD-BuFF, SuperVLAD); None if it has none."""
    return next((module for module in network.aggregation.modules() if isinstance(module, SoftlyAssigned)), None)


@torch.inference_mode()
def initialise_netvlad(
    network: Network, image_batches: Iterable[Tensor], seed: int, runtime: Runtime | None = None
) -> None:
    """Set a network's NetVLAD clusters by k-means over local features of images, in place.

    Args:
        network: one whose aggregation is NetVLAD, on its device.
        image_batches: uint8 [B,3,H,W]; 500 images are used if there are as many, 100 local features of each.
        seed: the run's seed.
        runtime: how local features are computed; in float32 where the network is, if not given.

    Raises:
        UserError: the network has no NetVLAD layer, or the images give fewer features than there are clusters.
    """
    layer = netvlad_of(network)
    if layer is None:
        raise UserError(f"--aggregation {network.config['aggregation']}: has no NetVLAD clusters to initialise")
    generator = torch_stream(seed, "netvlad")
    runtime = runtime or Runtime(device=layer.conv.weight.device)
    local_features = features_for_inference(network, runtime)
    samples = _sample_features(local_features, layer, image_batches, generator)
    clusters = layer.conv.out_channels
    if len(samples) < clusters:
        raise UserError(
            f"--netvlad_clusters {clusters}: the images give only {len(samples)} local features. "
            "Expected at least as many; use more images or fewer clusters"
        )
    samples = layer.fit(samples)
    layer.set_clusters(kmeans(samples, clusters, generator), samples)


def _sample_features(
    local_features: Callable[[Tensor], Tensor],
    layer: SoftlyAssigned,
    image_batches: Iterable[Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Return L2-normalised local features [S,C] of the first IMAGES images, the same number at random from each."""
    device = layer.conv.weight.device
    samples: list[Tensor] = []
    images = 0
    for batch in image_batches:
        features = local_features(batch[: IMAGES - images].to(device))
        tokens = features if features.dim() == 3 else features.flatten(2).transpose(1, 2)  # [B,P,C]
        scores = torch.rand(tokens.shape[:2], generator=generator)
        chosen = scores.topk(min(FEATURES_PER_IMAGE, tokens.shape[1]), dim=1).indices.to(device)
        picked = torch.gather(tokens, 1, chosen.unsqueeze(2).expand(-1, -1, tokens.shape[2]))
        samples.append(l2_normalise(picked.flatten(0, 1)))
        images += len(tokens)
        if images >= IMAGES:
            break
    return torch.cat(samples) if samples else layer.conv.weight.new_empty(0, layer.conv.in_channels)


MAX_ITERATIONS = 100


def kmeans(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Return the centres float32 [clusters,C], on the points' device, of points float [N,C], N >= clusters.

    Args:
        generator: a CPU generator; the result depends on it and on the points alone.
    """
    from sklearn.cluster import KMeans  # slow to import, and only NetVLAD needs it

    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    # k-means++ seeding: with random starts, NetVLAD's untrained recalls were about 2 points lower.
    fit = KMeans(clusters, init="k-means++", n_init=1, max_iter=MAX_ITERATIONS, random_state=seed)
    fit.fit(points.float().cpu().numpy())
    return torch.from_numpy(fit.cluster_centers_).float().to(points.device)
