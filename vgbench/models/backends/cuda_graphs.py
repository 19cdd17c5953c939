"""CUDA graphs: what eager PyTorch does on a GPU, recorded once and started as one (Gray, CUDA Graphs, 2019).

A small network has hundreds of kernels of a few microseconds each, and Python takes longer to start them than the GPU
to run them. A graph starts them all at once, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vgbench.models.backends.base import Infer, InferenceBackend
from vgbench.models.backends.eager import Chunked, can_fuse, fused
from vgbench.models.backends.static import Graph, StaticShapes
from vgbench.models.network import Network
from vgbench.runtime import Runtime

CHUNK = 16  # images in a graph, the usual `--infer_batch_size`; the last batch is filled up
_WARM_UP = 3  # calls before recording, in which libraries choose their kernels and take their memory


class CudaGraphs(InferenceBackend):
    """PyTorch's own kernels, without starting them one by one; one graph a size of images."""

    name = "cudagraphs"
    devices = ("cuda",)

    def describer(self, network: Network, runtime: Runtime) -> Infer:
        form = Chunked(fused(network, runtime, pointwise=can_fuse(runtime)), runtime, Network.forward)

        def convert(module: nn.Module, chunk: Tensor) -> Graph:
            del module  # the float32 one: what is recorded is the eager form in its precision
            return recorded(form, chunk)

        return StaticShapes(self.name, network, runtime, CHUNK, convert)


def recorded(compute: Infer, chunk: Tensor) -> Graph:
    """Record what is computed of a chunk of images [n,3,H,W] on a GPU; returns what does the same for others.

    Args:
        compute: images to descriptors float32 [n,D]; must not wait for the GPU.
    """
    images = chunk.clone()
    beside = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(beside):
        for _ in range(_WARM_UP):
            compute(images)
    torch.cuda.current_stream(images.device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    # By thread: the loader's own thread pins memory meanwhile, which recording would forbid to all.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        found = compute(images)

    def replay(chunks: Sequence[Tensor]) -> list[Tensor]:
        described = []
        for one in chunks:
            images.copy_(one)
            graph.replay()
            described.append(found.clone())
        return described

    return replay
