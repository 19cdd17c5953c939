"""The file formats that a network is written in, each read back and compared with the network before it counts."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgbench.errors import UserError, in_short
from vgbench.export.deployable import Deployable
from vgbench.export.suffixes import SUFFIXES
from vgbench.files import written_whole
from vgbench.models.quiet_exporters import quiet_exporters
from vgbench.randomness import numpy_stream

LOG = logging.getLogger(__name__)

TOLERANCE = 1e-4
INPUT, OUTPUT = "images", "descriptors"
_BATCHES = (1, 2, 3)
_EXAMPLES = 2
_MOST = 4096  # images per batch, and pixels a side where images come at any size

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        suffix: of its files.
        write: (module, example images, dynamic shapes, file); raises whatever torch raises where it cannot.
        load: the file as a function from images to descriptors; None where what reads it is not installed.
    """

    suffix: str
    write: Callable[[Deployable, Tensor, dict[int, Any], Path], None]
    load: Callable[[Path], Run | None]


def export_network(module: Deployable, size: tuple[int, int], format_name: str, path: Path) -> float | None:
    """Write a network with its preprocessing into a file, for batches of any number of images.

    The file is there whole or not at all: it is read back by its own runtime and compared with the module on batches of
    1, 2 and 3 images.

    Args:
        module: on the CPU; it is in eval mode afterwards.
        size: height and width in pixels of the images that it is given (or of some, where `module.resize` is set).
        format_name: a name in `FORMATS`.
        path: the file.

    Returns:
        The largest difference of a descriptor's value to the module's; None where it could not be compared.

    Raises:
        UserError: the network cannot be written in this format, or the file does not compute the same.
    """
    kind = FORMATS[format_name]
    module.eval()
    dynamic: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=_MOST)}
    if module.resize is not None:
        dynamic |= {2: torch.export.Dim("height", min=16, max=_MOST), 3: torch.export.Dim("width", min=16, max=_MOST)}
    with written_whole(path) as partial:
        try:
            with quiet_exporters():
                kind.write(module, _images(_EXAMPLES, size), dynamic, partial)
                run = kind.load(partial)
                difference = None if run is None else _difference(module, run, size)
        except UserError:
            raise
        except Exception as error:  # whatever tracing and a runtime raise: there are dozens
            others = " or ".join(sorted(FORMATS.keys() - {format_name}))
            raise UserError(
                f"{path}: {module.network.name} cannot be written as {format_name} ({in_short(error)}). Expected a "
                f"network that {format_name} can express; try --format {others}"
            ) from error
        if difference is not None and not difference <= TOLERANCE:
            raise UserError(
                f"{path}: the file's descriptors differ by {difference:.1e} from the network's. Expected at most "
                f"{TOLERANCE:.0e}; nothing was written, try another --format"
            )
    return difference


def _difference(module: Deployable, run: Run, size: tuple[int, int]) -> float:
    """Return the largest difference between a file and its module, on images of random pixels."""
    sizes = [size] if module.resize is None else [size, (size[0] + 37, size[1] - 11)]
    largest = 0.0
    for count in _BATCHES:
        for one in sizes:
            images = _images(count, one)
            with torch.inference_mode():
                expected = module(images)
            largest = max(largest, float((run(images) - expected).abs().max()))
    return largest


def _images(count: int, size: tuple[int, int]) -> Tensor:
    """Return uint8 [count,3,H,W] that are the same at every call: smooth in the large, rough in the small."""
    stream = numpy_stream(0, "export", count, *size)
    coarse = torch.from_numpy(stream.uniform(0, 255, size=(count, 3, 6, 8))).float()
    rough = torch.from_numpy(stream.normal(0, 12, size=(count, 3, *size))).float()
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return (smooth + rough).clamp(0, 255).to(torch.uint8)


def _write_onnx(module: Deployable, images: Tensor, dynamic: dict[int, Any], path: Path) -> None:
    _require("onnx", "onnxscript")
    program = torch.onnx.export(
        module, (images,), dynamo=True, dynamic_shapes=(dynamic,), input_names=[INPUT], output_names=[OUTPUT],
        opset_version=18, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)


def _load_onnx(path: Path) -> Run | None:
    if importlib.util.find_spec("onnxruntime") is None:
        LOG.warning("onnxruntime is not installed: %s is not compared with the network", path.name)
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def _write_torchscript(module: Deployable, images: Tensor, dynamic: dict[int, Any], path: Path) -> None:
    del dynamic  # what is traced takes any size that its operations take
    with torch.inference_mode():
        traced = torch.jit.trace(module, (images,), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(torch.jit.freeze(traced), str(path))


def _load_torchscript(path: Path) -> Run:
    loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            descriptors: Tensor = loaded(images)
        return descriptors

    return run


def _write_exported(module: Deployable, images: Tensor, dynamic: dict[int, Any], path: Path) -> None:
    with torch.no_grad():
        program = torch.export.export(module, (images,), dynamic_shapes=(dynamic,))
    with path.open("wb") as file:
        torch.export.save(program, file)


def _load_exported(path: Path) -> Run:
    with path.open("rb") as file:
        loaded = torch.export.load(file).module()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            descriptors: Tensor = loaded(images)
        return descriptors

    return run


def _require(*packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(
            f"--format onnx: {' and '.join(missing)} not installed. Expected the packages of the extra: "
            "python3 -m pip install onnx onnxscript onnxruntime"
        )


FORMATS = {
    "onnx": Format(SUFFIXES["onnx"], _write_onnx, _load_onnx),
    "torchscript": Format(SUFFIXES["torchscript"], _write_torchscript, _load_torchscript),
    "torch_export": Format(SUFFIXES["torch_export"], _write_exported, _load_exported),
}
