"""Where a network looks: what each position of an image adds to the similarity with another image's descriptor.

For GeM, SPoC, MAC and NetVLAD, with or without a linear layer behind them, the similarity is a sum over positions,
which is what is returned: no gradient is needed. For other heads it is the gradient of the similarity times the local
feature, one backward pass through the head (Selvaraju et al., "Grad-CAM", 2017, without its averaging over positions);
for networks that hand on no local features, the gradient times the pixels, summed over cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.aggregation.build import Head
from vgbench.models.aggregation.cosplace import CosPlace
from vgbench.models.aggregation.gem import GeM
from vgbench.models.aggregation.netvlad import NetVLAD
from vgbench.models.aggregation.pooling import MAC, SPoC
from vgbench.models.aggregation.vlad_buff import VLADBuFF
from vgbench.models.layers import L2Norm, l2_normalise
from vgbench.models.network import Infer, Network, features_for_inference
from vgbench.runtime import Runtime

_PIXEL_CELLS = 16


def pair_contributions(
    network: Network, images: Tensor, others: Tensor, runtime: Runtime, mapper: Infer | None = None
) -> tuple[Tensor, Tensor]:
    """Return what each position adds to the similarity of pairs of images: of `images`, and of `others`.

    Args:
        mapper: `mapper_of` the network, which many pairs share; None: one is made.
        images: uint8 [B,3,H,W] on the runtime's device, in its memory format.
        others: uint8 [B,3,H,W], the other image of each pair.

    Returns:
        Two float32 [B,h,w] on the device, not negative: what lowers the similarity counts as 0.
    """
    features = _features(network, torch.cat([images, others]), runtime, mapper)
    if features is None:
        with torch.no_grad(), runtime.autocast():
            described = network(torch.cat([images, others])).float()
        first, second = described.chunk(2)
        return _pixels(network, images, second, runtime), _pixels(network, others, first, runtime)
    with torch.no_grad():
        first, second = network.aggregation(features).float().chunk(2)
    scores = local_contributions(network.aggregation, features, torch.cat([second, first]))
    height, width = images.shape[2:]
    grid = None if scores is None else _grid(scores, height / width)
    if grid is None or not bool((grid > 0).any()):  # a head that reads the class token only
        return _pixels(network, images, second, runtime), _pixels(network, others, first, runtime)
    ours, theirs = grid.clamp(min=0).chunk(2)
    return ours, theirs


def local_contributions(aggregation: nn.Module, features: Any, targets: Tensor) -> Tensor | None:
    """Return what each local feature adds to the similarity with a descriptor, up to a factor of each image.

    Args:
        features: maps [B,C,h,w], tokens [B,N,C], or a pair of maps and a class token, as the aggregation takes them.
        targets: descriptors float32 [B,D].

    Returns:
        float32 [B,h,w] or [B,N]; None where the features are of another form.
    """
    taken = _closed_form(aggregation, features, targets) if isinstance(features, Tensor) else None
    return _gradient(aggregation, features, targets) if taken is None else taken


def mapper_of(network: Network, runtime: Runtime) -> Infer | None:
    """Return the fast form of a network's local features; None where they are of a kind that it has none for."""
    return features_for_inference(network, runtime) if network.backbone.kind in ("map", "tokens") else None


def _features(network: Network, images: Tensor, runtime: Runtime, mapper: Infer | None) -> Any:
    """Return the local features of images, as ordinary tensors; None where there are none."""
    mapper = mapper or mapper_of(network, runtime)
    if mapper is not None:
        found: Any = mapper(images)
    elif network.backbone.kind == "map+token":
        with torch.no_grad(), runtime.autocast():
            found = network.local_features(images)
    else:
        return None
    if isinstance(found, Tensor):
        return found.clone() if found.dim() in (3, 4) else None
    return tuple(part.float().clone() for part in found)


@torch.no_grad()
def _closed_form(aggregation: nn.Module, features: Tensor, targets: Tensor) -> Tensor | None:
    steps = _steps(aggregation)
    cores = [index for index, step in enumerate(steps) if isinstance(step, GeM | SPoC | MAC | NetVLAD)]
    if len(cores) != 1 or isinstance(steps[cores[0]], VLADBuFF):
        return None
    core = steps[cores[0]]
    if isinstance(core, GeM) and core.grid > 1:  # a sum a cell, which the gradient knows how to share out
        return None
    tokens = features.dim() == 3
    for step in steps[cores[0] + 1 :][::-1]:
        if isinstance(step, nn.Linear):
            weight: Tensor = step.weight
            targets = targets @ weight.float()
        elif not isinstance(step, L2Norm):  # which scales an image's sum as a whole
            return None
    x = features.transpose(1, 2) if tokens else features.flatten(2)  # [B,C,P]
    x = x.float()
    for step in steps[: cores[0]]:
        if not isinstance(step, L2Norm):
            return None
        x = l2_normalise(x, {1: 2, 2: 1}[step.dim] if tokens else 1)  # of [B,N,C], as dimensions of x
    scores = _of_core(core, x, targets)
    return scores if tokens else scores.view(len(scores), *features.shape[2:])


def _of_core(core: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """Share the similarity out among local features [B,C,P]: [B,P]."""
    if isinstance(core, NetVLAD):
        x = l2_normalise(x)
        assignment = torch.matmul(core.conv.weight.flatten(1), x).softmax(dim=1)
        residuals = torch.matmul(assignment, x.transpose(1, 2)) - assignment.sum(2, keepdim=True) * core.centroids
        wanted = targets.view(residuals.shape) / residuals.norm(dim=2, keepdim=True).clamp_min(1e-12)
        along = torch.matmul(wanted, x) - (wanted * core.centroids).sum(2, keepdim=True)  # <x_p - c_k, d_k>
        contribution: Tensor = (assignment * along).sum(1)
        return contribution
    if isinstance(core, SPoC):
        return (x * targets[:, :, None]).sum(1)
    if isinstance(core, MAC):
        share = (x == x.amax(2, keepdim=True)).float()
        pooled = x.amax(2)
    else:
        assert isinstance(core, GeM)
        share = x.clamp(min=core.eps).pow(core.p)
        pooled = share.mean(2).pow(1 / core.p)
    share = share / share.sum(2, keepdim=True).clamp_min(1e-30)
    return ((pooled * targets)[:, :, None] * share).sum(1)


def _steps(aggregation: nn.Module) -> list[nn.Module]:
    """Return the layers of an aggregation in order, those inside of others included."""
    if isinstance(aggregation, Head):
        return [step for part in aggregation for step in _steps(part)]
    if isinstance(aggregation, CosPlace):
        return [L2Norm(), aggregation.gem, aggregation.fc, L2Norm()]
    return [aggregation]


def _gradient(aggregation: nn.Module, features: Any, targets: Tensor) -> Tensor | None:
    """Return the gradient of the similarity times the local feature, summed over channels."""
    local = features if isinstance(features, Tensor) else features[0]
    leaf = local.detach().float().requires_grad_(True)
    whole = leaf if isinstance(features, Tensor) else (leaf, *features[1:])
    with torch.enable_grad():
        similarity = (aggregation(whole).float() * targets).sum()
        slopes: tuple[Tensor | None, ...] = torch.autograd.grad(similarity, leaf, allow_unused=True)
    slope = slopes[0]
    if slope is None:
        return None
    return (slope * leaf).detach().sum(1 if leaf.dim() == 4 else 2)


def _pixels(network: Network, images: Tensor, targets: Tensor, runtime: Runtime) -> Tensor:
    """Return the size of gradient times pixel, summed over a grid of cells: [B,cells,cells]."""
    leaf = network.normalise(images).detach().requires_grad_(True)
    forward: Callable[[Tensor], Tensor] = network
    with torch.enable_grad(), runtime.autocast():
        similarity = (forward(leaf).float() * targets).sum()
        (slope,) = torch.autograd.grad(similarity, leaf)
    cells = F.adaptive_avg_pool2d((slope * leaf).abs().sum(1, keepdim=True).float(), _PIXEL_CELLS)
    return cells[:, 0].detach()


def _grid(scores: Tensor, ratio: float) -> Tensor | None:
    """Give scores of tokens [B,N] the shape of the image, whose height is `ratio` times its width: [B,h,w].

    A first token that is no position is left out; None where the others make no grid.
    """
    if scores.dim() == 3:
        return scores
    for tokens in (scores, scores[:, 1:]):
        count = tokens.shape[1]
        height = round((count * ratio) ** 0.5)
        if height and count % height == 0:
            return tokens.reshape(len(tokens), height, count // height)
    return None
