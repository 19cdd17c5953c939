"""Graphs of one shape each: a backend that converts the network sees whole chunks, and the last one is filled up."""

from __future__ import annotations

import logging
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vgbench.errors import UserError, in_short
from vgbench.models.backends.eager import Eager, fused
from vgbench.models.network import Network, weights_hash
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)

# How far a descriptor may be from eager PyTorch's of the same precision, as a part of its length.
TOLERANCE = {None: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}
_KEPT = 8  # graphs in memory: a test has one or two sizes, mining and validation share them while weights are the same

# Chunks [n,3,H,W] of one shape -> descriptors float32 [n,D] of each.
Graph = Callable[[Sequence[Tensor]], list[Tensor]]
# (pixels -> descriptors as a module in eval mode, a chunk of images) -> graph
Convert = Callable[[nn.Module, Tensor], Graph]

_graphs: OrderedDict[tuple[object, ...], Graph] = OrderedDict()


class Describing(nn.Module):
    """What is converted: images [B,3,H,W] to descriptors float32 [B,D].

    Args:
        network: its fused form.
        normalise: whether the images are pixels uint8, not normalised floats.
    """

    def __init__(self, network: Network, *, normalise: bool) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.backbone(self.network.normalise(images) if self.normalise else images)
        descriptors: Tensor = self.network.aggregation(features)
        return descriptors.float()


class StaticShapes:
    """Descriptors by graphs of one shape each, made when a shape is first met and compared with eager PyTorch there.

    Args:
        name: of the backend.
        network: whose descriptors.
        runtime: precision and device.
        chunk: images in a graph's batch.
        convert: makes a graph.
    """

    def __init__(self, name: str, network: Network, runtime: Runtime, chunk: int, convert: Convert) -> None:
        self.name, self.network, self.runtime, self.convert = name, network, runtime, convert
        self.chunk = 0 if network.mixes_batch else chunk
        weights = weights_hash(network)
        self._key = (name, weights, str(runtime.amp_dtype), str(runtime.device), runtime.calibrated)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return descriptors float32 [B,D] of images [B,3,H,W]; raises UserError at a shape that cannot be done."""
        size = self.chunk or len(images)
        parts = list(torch.split(images, size))
        missing = size - len(parts[-1])
        if missing:
            parts[-1] = torch.cat([parts[-1], parts[-1][-1:].expand(missing, -1, -1, -1)])
        return torch.cat(self._graph(parts[0])(parts))[: len(images)]

    def _graph(self, chunk: Tensor) -> Graph:
        key = (*self._key, chunk.dtype, chunk.shape)
        if key not in _graphs:
            _graphs[key] = self._made(chunk)
            while len(_graphs) > _KEPT:
                _graphs.popitem(last=False)
        _graphs.move_to_end(key)
        return _graphs[key]

    def _made(self, chunk: Tensor) -> Graph:
        started = time.perf_counter()
        exact = Runtime(self.runtime.device)  # the graph's own precision is its backend's matter
        module = Describing(fused(self.network, exact, pointwise=False), normalise=not chunk.is_floating_point())
        try:
            graph = self.convert(module.eval(), chunk)
            found = graph([chunk])[0]
        except UserError:
            raise
        except Exception as error:  # whatever a converter raises: there are dozens
            raise UserError(
                f"--inference_backend {self.name}: {self.network.name} cannot be converted ({in_short(error)}). "
                f"Expected a network that {self.name} can express; use --inference_backend eager"
            ) from error
        difference = self._difference(found, chunk)
        LOG.info(
            "%s: %s converted for %d images of %dx%d (%s) in %.1f s, descriptors differ by at most %.1e of "
            "their length", self.name, self.network.name, len(chunk), *chunk.shape[2:], self._precision,
            time.perf_counter() - started, difference,
        )  # fmt: skip
        tolerance = TOLERANCE[self.runtime.amp_dtype]
        if self.runtime.calibration is None and not difference <= tolerance:
            raise UserError(
                f"--inference_backend {self.name}: descriptors of {self.network.name} differ by {difference:.1e} of "
                f"their length from PyTorch's. Expected at most {tolerance:g}; use --inference_backend eager"
            )
        return graph

    @property
    def _precision(self) -> str:
        if self.runtime.calibration is not None:
            return "int8"
        return str(self.runtime.amp_dtype or torch.float32).removeprefix("torch.")

    def _difference(self, found: Tensor, chunk: Tensor) -> float:
        expected = Eager().describer(self.network, self.runtime)(chunk)
        return float(((found - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-12)).max())


def traced(module: nn.Module, chunk: Tensor) -> torch.jit.ScriptModule:
    """Return a module as the graph that it runs for one chunk of images."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of shapes that become constants: the graph is of this shape alone
        found: torch.jit.ScriptModule = torch.jit.trace(module, (chunk.clone(),), check_trace=False)  # type: ignore[no-untyped-call]
    return found
