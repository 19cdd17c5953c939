"""What a user can set about where and how networks run."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.options import Options, at_least, option
from vgbench.registry import Registry

# name -> an `InferenceBackend` (vgbench.models.backends.base), which says which packages it needs.
BACKENDS = Registry(
    "inference backend",
    {
        "eager": "vgbench.models.backends.eager:Eager",
        "compile": "vgbench.models.backends.compiled:Compiled",
        "openvino": "vgbench.models.backends.openvino:OpenVino",
        "onnxruntime": "vgbench.models.backends.onnx_runtime:OnnxRuntime",
        "cudagraphs": "vgbench.models.backends.cuda_graphs:CudaGraphs",
    },
    closed=True,
)
SWITCH = ("auto", "on", "off")


@dataclass(frozen=True)
class RuntimeOptions(Options):
    """Options that change speed and memory, not what is computed (beyond rounding)."""

    device: str = option(
        "auto", "where to run: auto takes a GPU if there is one", choices=("auto", "cuda", "cpu"), common=True
    )
    amp: str = option(
        "auto",
        "mixed precision (auto takes bf16 where the hardware has it); tf32 is float32 whose products a GPU rounds",
        choices=("auto", "bf16", "fp16", "tf32", "off"),
        common=True,
    )
    channels_last: str = option("auto", "store images and features with channels last; auto is on", choices=SWITCH)
    compile: str = option("auto", "compile the network with torch.compile; auto is off", choices=SWITCH)
    inference_backend: str = option(
        "eager",
        "what computes descriptors: PyTorch as it is, torch.compile, OpenVINO or ONNX Runtime, which are installed "
        "for it (pip install openvino, onnxruntime), or on a GPU cudagraphs, PyTorch's kernels started all at once",
        choices=tuple(BACKENDS),
    )
    jpeg_decoder: str = option(
        "cpu",
        "what decodes JPEG files: the processes of --num_workers, or nvJPEG on a GPU that has few cores beside it; "
        "pixels then differ by half a grey level or so",
        choices=("cpu", "gpu"),
    )


@dataclass(frozen=True)
class QuantisationOptions(Options, needs="inference_backend=openvino", topic="runtime"):
    """Descriptors by whole numbers of 8 bits: faster, and not the same."""

    openvino_int8: bool = option(
        False, "quantise the network to 8 bits, calibrated on the train split's database; says what recall is lost"
    )
    calibration_images: int = option(
        300, "images that the ranges of 8 bits are taken from", range=at_least(4), needs="openvino_int8"
    )
