"""Where and how networks run: device, precision, memory format, compilation."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vgbench import parallel
from vgbench.errors import UserError
from vgbench.runtime_options import BACKENDS
from vgbench.runtime_options import RuntimeOptions as RuntimeOptions

# mallopt(3): names of the parameters in <malloc.h>, and the largest block that is kept.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _KEPT_BYTES = -1, -3, -4, 2**31 - 1


@dataclass(frozen=True)
class Runtime:
    """The resolved options, passed to everything that runs a network.

    Attributes:
        device: the device of weights and batches.
        amp_dtype: autocast's type, or None for float32.
        channels_last: whether 4-D tensors are kept in channels_last.
        compile: whether networks are compiled for training.
        backend: what computes descriptors, a name in `BACKENDS`.
        tf32: whether a GPU rounds the factors of float32 convolutions and matrix products of a network to 10 bits.
        device_jpeg: whether JPEG files are decoded on the device.
        calibration: uint8 [N,3,H,W] images by which a backend quantises the network to 8 bits; None: it does not.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    amp_dtype: torch.dtype | None = None
    channels_last: bool = False
    compile: bool = False
    backend: str = "eager"
    tf32: bool = False
    device_jpeg: bool = False
    calibration: Tensor | None = field(default=None, compare=False, repr=False)

    @cached_property
    def calibrated(self) -> str:
        """What the images that calibrate are known by, "" without them."""
        if self.calibration is None:
            return ""
        return hashlib.sha256(self.calibration.contiguous().numpy().tobytes()).hexdigest()

    @property
    def backend_facts(self) -> dict[str, str]:
        """What changes a descriptor in its last digits, or more where it is quantised; {} for PyTorch as it is."""
        facts = {} if self.backend == "eager" else {"backend": self.backend}
        facts |= {"float32": "tf32"} if self.tf32 else {}
        facts |= {"jpeg": "device"} if self.device_jpeg else {}
        return facts | ({"int8": self.calibrated} if self.calibration is not None else {})

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move a module to the device in the memory format (in place, and returned)."""
        return module.to(device=self.device, memory_format=self.memory_format)  # type: ignore[call-overload,no-any-return]

    def to_device(self, images: Tensor) -> Tensor:
        """Move images [B,3,H,W] or sequences [B,L,3,H,W] to the device in the memory format, without waiting.

        From memory that is not pinned, the copy waits.
        """
        if images.dim() == 5:
            return self.to_device(images.flatten(0, 1)).view(images.shape)
        return images.to(self.device, non_blocking=True).contiguous(memory_format=self.format_of(images))

    def format_of(self, values: Tensor) -> torch.memory_format:
        """Return the memory format of images or maps [B,C,H,W], or of tokens [B,N,C], which have one alone."""
        return self.memory_format if values.dim() == 4 else torch.contiguous_format

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Run the body in the chosen precision."""
        if self.amp_dtype is None:
            with self.products():
                yield
        else:
            with torch.autocast(self.device.type, dtype=self.amp_dtype):
                yield

    @contextlib.contextmanager
    def products(self) -> Iterator[None]:
        """Run the body with the factors of float32 products as the options say, on a GPU; what autocast leaves alone.

        Only around a network and its backward pass: losses, mining and exact search need all their bits.
        """
        if not self.tf32:
            yield
            return
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@dataclass(frozen=True)
class Inference:
    """How images become descriptors: handed as one value to everything that describes images.

    Attributes:
        size: height and width in pixels that images are resized to; None for the images' own.
        batch_size: images in one batch.
        num_workers: processes that decode images, at most the machine's cores; 0 decodes in this process.
        runtime: device and precision.
        read: what reads rows of a table, images or features in their place, [B,...]; None: images are decoded.
        form: gives the inference form of the network that is described, where several tables share it; None: each call
            makes its own.
    """

    size: tuple[int, int] | None
    batch_size: int = 16
    num_workers: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    read: Callable[[Any, NDArray[np.int64]], Tensor] | None = field(default=None, compare=False, repr=False)
    form: Callable[[], Callable[[Tensor], Tensor]] | None = field(default=None, compare=False, repr=False)

    @property
    def fixed_size(self) -> tuple[int, int]:
        """Return the size, for what needs one size of all images; raises UserError where there is none."""
        if self.size is None:
            raise UserError("images of their own sizes: this needs one size of all images; use --resize 480 640")
        return self.size


def resolve_runtime(options: RuntimeOptions) -> Runtime:
    """Turn `auto` into what this machine does best.

    Raises:
        UserError: a GPU was asked for and there is none; the inference backend is not installed, or does not run
            on that device.
    """
    has_cuda = torch.cuda.is_available()
    if options.device == "cuda" and not has_cuda:
        raise UserError("--device cuda: torch sees no CUDA device here; use --device auto or --device cpu")
    device = torch.device("cuda" if has_cuda and options.device != "cpu" else "cpu")
    if device.type == "cuda" and parallel.launched():
        device = torch.device("cuda", parallel.local_rank())
        torch.cuda.set_device(device)
    if device.type == "cpu" and options.amp == "fp16":
        raise UserError("--amp fp16: a CPU has no fp16 convolutions; use --amp auto, bf16 or off")
    if device.type == "cpu" and options.jpeg_decoder == "gpu":
        raise UserError("--jpeg_decoder gpu: runs on a GPU, and this is a CPU; use --jpeg_decoder cpu")
    if device.type == "cpu" and options.amp == "tf32":
        raise UserError("--amp tf32: a CPU has no such products; use --amp auto, bf16 or off")
    if device.type == "cpu":
        _keep_freed_memory()
    backend = "compile" if options.compile == "on" and options.inference_backend == "eager" else ""
    backend = backend or options.inference_backend
    BACKENDS.resolve(backend)().check(device)
    named = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": None, "off": None}
    amp_dtype = named[options.amp] if options.amp != "auto" else _best_amp_dtype(device)
    return Runtime(
        device, amp_dtype, options.channels_last != "off", options.compile == "on", backend, options.amp == "tf32",
        options.jpeg_decoder == "gpu",
    )  # fmt: skip


def peak_memory(device: torch.device) -> tuple[int, str]:
    """Return the most memory that was ever in use, bytes, and whose: the GPU's, else this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "GPU"
    try:
        import resource  # not on Windows
    except ImportError:
        return 0, "not known on this system"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024), "this process"


def _keep_freed_memory() -> None:
    """Let the C library keep large freed blocks for the next batch, where it is glibc.

    By default every map of more than 32 MB goes back to the system and is faulted in again, page by page: half of the
    time of a training step on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        _keep_freed_blocks(library.mallopt)


def release_freed_memory() -> None:
    """Give freed memory back to the system, where the C library is glibc: between stages that need it otherwise.

    What `_keep_freed_memory` keeps serves the next batch of the same stage. The blocks of another stage have other
    sizes and would come on top of it.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _keep_freed_blocks(mallopt: Callable[[int, int], int]) -> bool:
    """Set glibc's allocator through its `mallopt` (1: done, 0: refused); return whether blocks will be kept.

    glibc 2.34 and older refuse a threshold above 32 MiB; there no block is mapped alone any more. The trim threshold
    comes last: setting it ends glibc's own adapting of the other, so that alone it would make things slower.
    """
    kept = mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES) == 1 or mallopt(_M_MMAP_MAX, 0) == 1
    return kept and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES) == 1


def _best_amp_dtype(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # Without bf16 instructions a CPU emulates bf16, several times slower than float32.
    return torch.bfloat16 if _has_bf16_units() else None


def onednn_has_bf16() -> bool:
    """Whether oneDNN, which computes convolutions on a CPU, has bf16 kernels here (AVX-512 or newer)."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _has_bf16_units() -> bool:
    """Whether this CPU multiplies bf16 itself: oneDNN has kernels for every AVX-512, most of which must emulate it."""
    found = torch.cpu.get_capabilities()
    on_x86 = str(found.get("architecture", "")).startswith("x86")
    return onednn_has_bf16() and (not on_x86 or bool(found.get("avx512_bf16") or found.get("amx_bf16")))
