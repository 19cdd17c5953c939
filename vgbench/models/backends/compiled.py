"""torch.compile: the fast form, compiled by inductor for the images' size; compiled code is kept for later runs."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

import torch
from torch import Tensor

from vgbench.errors import UserError, in_short
from vgbench.models.backends.base import Infer, InferenceBackend
from vgbench.models.backends.eager import Chunked, can_fuse, fused
from vgbench.models.network import Network
from vgbench.runtime import Runtime

LOG = logging.getLogger(__name__)

CACHE = "TORCHINDUCTOR_CACHE_DIR"


class Compiled(InferenceBackend):
    """Needs a C++ compiler on a CPU; a size of images, and the last batch's number of them, is compiled once."""

    name = "compile"

    def check(self, device: torch.device) -> None:
        super().check(device)
        compiler = os.environ.get("CXX") or "g++"
        if device.type == "cpu" and not any(map(shutil.which, (compiler, "g++", "clang++"))):
            raise UserError(
                f"--inference_backend compile: {compiler} not found. Expected a C++ compiler, which torch.compile "
                "calls: install g++, or use --inference_backend eager"
            )

    def describer(self, network: Network, runtime: Runtime) -> Infer:
        return _compiled(fused(network, runtime, pointwise=can_fuse(runtime)), runtime)

    def mapper(self, network: Network, runtime: Runtime) -> Infer:
        return _compiled(fused(network, runtime, pointwise=can_fuse(runtime)), runtime, maps=True)


def _compiled(form: Network, runtime: Runtime, *, maps: bool = False) -> Infer:
    keep_compiled_code()
    chunked = Chunked(form, runtime, Network.local_features if maps else Network.forward)
    chunked.computed = torch.compile(chunked.computed, dynamic=False)  # type: ignore[method-assign]
    return WarmedUp(chunked, form)


def keep_compiled_code() -> None:
    """Tell inductor to keep what it compiles in the user's cache folder, unless the user has named another."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    os.environ.setdefault(CACHE, str(home / "vgbench" / "inductor"))


class WarmedUp:
    """Calls a compiled form, and says how long the first batch of each size took.

    Args:
        compiled: the form.
        network: for messages.
    """

    def __init__(self, compiled: Infer, network: Network) -> None:
        self.compiled, self.network = compiled, network
        self._seen: set[tuple[torch.dtype, torch.Size]] = set()

    def __call__(self, images: Tensor) -> Tensor:
        key = images.dtype, images.shape[2:]
        if key in self._seen:
            return self.compiled(images)
        started = time.perf_counter()
        try:
            found = self.compiled(images)
        except UserError:
            raise
        except Exception as error:  # whatever the compiler raises: there are dozens
            raise UserError(
                f"--inference_backend compile: {self.network.name} cannot be compiled ({in_short(error)}). Expected a "
                "network that torch.compile can express; use --inference_backend eager"
            ) from error
        self._seen.add(key)
        LOG.info(
            "compile: warmed up for images of %dx%d in %.1f s (%s)",
            *images.shape[2:], time.perf_counter() - started, os.environ.get(CACHE, ""),
        )  # fmt: skip
        return found
