"""ONNX Runtime: TensorRT or CUDA where its package has them and there is a GPU, else the CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.backends.base import Infer, InferenceBackend
from vgbench.models.backends.static import Graph, StaticShapes
from vgbench.models.network import Network
from vgbench.models.quiet_exporters import quiet_exporters
from vgbench.runtime import Runtime

CHUNK = {"cpu": 4, "cuda": 16}
TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
_OPSET = 18


class OnnxRuntime(InferenceBackend):
    """In float32, whatever the runtime's precision, but for TensorRT: ONNX Runtime's own kernels have no other."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx", "onnxscript")
    install = "onnx onnxscript onnxruntime (onnxruntime-gpu where there is a GPU)"

    def check(self, device: torch.device) -> None:
        super().check(device)
        if device.type == "cuda":
            providers(device)

    def describer(self, network: Network, runtime: Runtime) -> Infer:
        chunk = CHUNK[runtime.device.type]
        if runtime.device.type == "cpu" or providers(runtime.device)[0][0] != TENSORRT:
            runtime = dataclasses.replace(runtime, amp_dtype=None)
        return StaticShapes(self.name, network, runtime, chunk, lambda module, part: _convert(module, part, runtime))


def providers(device: torch.device, amp_dtype: torch.dtype | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Return what computes, the fastest first, with its settings.

    Raises:
        UserError: the device is a GPU, and the installed package has no provider for it.
    """
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if device.type == "cpu":
        return [(CPU, {})]
    number = {"device_id": device.index or 0}
    half = {"trt_fp16_enable": amp_dtype == torch.float16, "trt_bf16_enable": amp_dtype == torch.bfloat16}
    found: list[tuple[str, dict[str, Any]]] = []
    if TENSORRT in there:
        found.append((TENSORRT, {**number, **half, "trt_engine_cache_enable": True}))
    if CUDA in there:
        found.append((CUDA, number))
    if not found:
        raise UserError(
            f"--inference_backend onnxruntime: the installed package has {', '.join(there)}. Expected {TENSORRT} or "
            f"{CUDA}; install onnxruntime-gpu, or use --device cpu"
        )
    return found


def _convert(module: nn.Module, chunk: Tensor, runtime: Runtime) -> Graph:
    import onnxruntime

    chosen = providers(runtime.device, runtime.amp_dtype)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_onnx(module, chunk), options, providers=chosen)
    if chosen[0][0] != CPU and CPU in session.get_providers()[:1]:
        raise UserError(
            "--inference_backend onnxruntime: its GPU libraries could not be loaded. Expected CUDA and cuDNN of the "
            "versions that onnxruntime-gpu was built for; or use --device cpu"
        )

    def run(chunks: Sequence[Tensor]) -> list[Tensor]:
        found = [session.run(None, {"images": np.ascontiguousarray(part.cpu().numpy())})[0] for part in chunks]
        return [torch.from_numpy(values).float().to(runtime.device) for values in found]

    return run


def _onnx(module: nn.Module, chunk: Tensor) -> bytes:
    """Return the network as the bytes of an ONNX file, for batches of this shape."""
    with quiet_exporters(), torch.no_grad():
        program = torch.onnx.export(
            module, (chunk.clone(),), dynamo=True, input_names=["images"], output_names=["descriptors"],
            opset_version=_OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    exported: bytes = program.model_proto.SerializeToString()
    return exported
