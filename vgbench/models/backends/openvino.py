"""OpenVINO on CPUs: the network traced and converted, in float32 or bf16, or with weights and maps of 8 bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.backends.base import Infer, InferenceBackend
from vgbench.models.backends.static import Graph, StaticShapes, traced
from vgbench.models.network import Network
from vgbench.runtime import Runtime

CHUNK = 4
_PRECISION = {None: "f32", torch.bfloat16: "bf16"}


class OpenVino(InferenceBackend):
    """Quantised where the runtime brings images to calibrate with (`--openvino_int8`)."""

    name = "openvino"
    packages = ("openvino",)
    install = "openvino"
    devices = ("cpu",)

    def describer(self, network: Network, runtime: Runtime) -> Infer:
        return StaticShapes(self.name, network, runtime, CHUNK, lambda module, chunk: _convert(module, chunk, runtime))


def check_int8() -> None:
    """Raise UserError where what quantises is not installed."""
    if importlib.util.find_spec("nncf") is None:
        raise UserError(
            "--openvino_int8: nncf not installed. Expected the packages of the extra: "
            "python3 -m pip install openvino nncf"
        )


def _convert(module: nn.Module, chunk: Tensor, runtime: Runtime) -> Graph:
    import openvino

    model = openvino.convert_model(traced(module, chunk), input=[list(chunk.shape)])
    if runtime.calibration is not None:
        model = _quantised(model, module, chunk, runtime.calibration)
    threads = torch.get_num_threads()
    settings = {
        "INFERENCE_PRECISION_HINT": _PRECISION[runtime.amp_dtype],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": min(threads, CHUNK),
    }
    return _Requests(openvino.Core().compile_model(model, "CPU", settings))


class _Requests:
    """Chunks that are computed side by side, one a stream."""

    def __init__(self, compiled: Any) -> None:
        import openvino

        self._queue = openvino.AsyncInferQueue(compiled)
        self._queue.set_callback(self._keep)
        self._found: list[Tensor] = []

    def __call__(self, chunks: Sequence[Tensor]) -> list[Tensor]:
        arrays = [np.ascontiguousarray(chunk.numpy()) for chunk in chunks]
        self._found = [torch.empty(0)] * len(arrays)
        for number, array in enumerate(arrays):
            self._queue.start_async([array], number, share_inputs=True)
        self._queue.wait_all()
        return self._found

    def _keep(self, request: Any, number: int) -> None:
        self._found[number] = torch.from_numpy(np.array(request.get_output_tensor().data, np.float32))


def _quantised(model: Any, module: nn.Module, chunk: Tensor, images: Tensor) -> Any:
    """Return a model with 8-bit weights and maps, their ranges from images uint8 [N,3,H,W] of the chunk's size."""
    import logging

    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    if images.shape[2:] != chunk.shape[2:]:
        images = nn.functional.interpolate(images.float(), chunk.shape[2:], mode="bilinear", antialias=True)
        images = images.round_().clamp_(0, 255).to(torch.uint8)
    normalise = None if chunk.dtype == torch.uint8 else module.network.normalise  # type: ignore[union-attr]
    whole = images[: len(images) // len(chunk) * len(chunk)]
    chunks = [part if normalise is None else normalise(part) for part in torch.split(whole, len(chunk))]  # type: ignore[operator]
    return nncf.quantize(
        model,
        nncf.Dataset(chunks, lambda part: part.numpy()),
        subset_size=len(chunks),
        preset=nncf.QuantizationPreset.MIXED,
    )
